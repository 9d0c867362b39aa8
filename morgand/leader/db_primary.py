"""A duty of the leader: the database's primary is where Patroni has it, and Patroni hears early of hosts that leave."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Sequence

from morgand.base.clock import Clock
from morgand.base.errors import StorageFull, StoreConflict, Unavailable
from morgand.cluster import codec, fencing, keys
from morgand.cluster.codec import HostRecord
from morgand.cluster.election import Leadership
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import ClusterStore, Put, Unchanged
from morgand.roles.db import patroni_keys, succession
from morgand.roles.db.patroni_keys import Patroni, holders_in, patroni_in
from morgand.roles.db.site import Secrets
from morgand.roles.db.spec import SPEC
from morgand.scheduler.rank import beats, standing
from morgand.state.hosts import Host, HostState
from morgand.state.roles import Assignment, RolePreference

log = logging.getLogger("morgand.primary")

LOOK_EVERY_S = 0.5
OUTRANKED_S = 15.0  # a better host takes over once it has had everything, and nobody came or went, for so long
AWAY_S = 600.0  # and for so long while somebody is away: whoever returns meanwhile would meet the handover
SECRET_BYTES = 24
STALE_S = 4.0  # who has not taken over for so long will not; Patroni loses 2 s with a dead voter


class PrimaryKeeper:
    """``run`` for as long as a leadership lasts."""

    def __init__(
        self, store: ClusterStore, mirror: Mirror, clock: Clock, *, hosts: Callable[[], Sequence[Host]],
        preference: Callable[[], RolePreference],
    ) -> None:  # fmt: skip
        self._store, self._mirror, self._clock = store, mirror, clock
        self._hosts, self._preference = hosts, preference
        # the primary, who is better, who is not well or new, and since when
        self._outranked: tuple[str, str, frozenset[str], float] | None = None
        # what keeps others from taking over, and since when
        self._withdrawal: tuple[succession.Withdrawal, float] | None = None

    async def run(self, held: Leadership) -> None:
        while True:
            changed = self._mirror.next()
            try:
                await self._poll(held)
            except (StoreConflict, StorageFull, Unavailable) as err:
                log.debug("primary not kept", extra={"reason": err.message})
                await self._clock.sleep(LOOK_EVERY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await changed.wait()

    async def _poll(self, held: Leadership) -> None:
        patroni, db = patroni_in(self._mirror), holders_in(self._mirror.view)
        request = self._mirror.get(keys.MOVE)
        passed = succession.follow(patroni, db) or (succession.moved(patroni, db, request) if request else None)
        if passed is not None:
            await self._mirror.until(await fencing.hand_on(self._store, held, passed))
            log.warning("primary", extra={"host": passed.given[0].host, "reason": passed.given[0].why})
            return
        view = self._mirror.view
        records = list(view.hosts.values())
        leaving = frozenset(one.id for one in records if one.draining or one.state is HostState.LEFT)
        sick = frozenset(one.id for one in self._hosts() if one.profile.disk.sick)
        asked = succession.relieve(patroni, db, leaving | sick, self._better(patroni, db, records))
        if asked is not None:
            compares, puts = asked
            await self._mirror.until(await self._store.txn([held.fence(), *compares], puts))
            reasons = {"its host leaves": leaving, "its disk is sick": sick}
            why = next((one for one, hosts in reasons.items() if patroni.leader in hosts), "another host is better")
            log.warning("primary told to hand over", extra={"host": patroni.leader, "reason": why})
            return
        lost = {one.id: view.items[keys.host(one.id)].mod_revision for one in records if one.state is HostState.FENCED}
        if (needless := succession.needless(patroni, leaving | sick, lost)) is not None:
            await self._withdraw(held, needless)
            log.warning("primary need not hand over", extra={"host": patroni.leader, "reason": "a host was lost"})
            return
        await self._clear(held, patroni, frozenset(lost))
        away = any(one.profile.has_engine(patroni_keys.ENGINE) for one in self._hosts() if one.id in lost)
        armed = succession.rearm(patroni, away=away)
        if armed is not None:
            compares, settings = armed
            await self._mirror.until(await self._store.txn([held.fence(), *compares], [settings]))

    def _better(self, patroni: Patroni, db: Sequence[Assignment], records: Sequence[HostRecord]) -> str | None:
        """The best synchronous standby, when it has been better than the primary's host by the scheduler's margin for
        long, in peace.

        One with an older program, which may not be able to use the database any more, is not better.
        """
        known = {
            one.id: one for one in self._hosts()
            if one.state is HostState.ALIVE and not one.profile.disk.sick and not one.draining
        }  # fmt: skip
        primary = known.get(patroni.leader or "")
        placed = {one.host for one in db}
        standbys = [known[name] for name in patroni.synchronous if name in known and name in placed]
        if primary is None or not standbys:
            self._outranked = None
            return None
        ranks = {one.id: standing(one, SPEC, self._preference()) for one in (primary, *standbys)}
        standby = max(standbys, key=lambda one: ranks[one.id])
        knows = {one.id: one.schema.post for one in records}
        if not beats(ranks[standby.id], ranks[primary.id]) or knows.get(standby.id, 0) < knows.get(primary.id, 0):
            self._outranked = None
            return None
        now = self._clock.monotonic()
        unwell = frozenset(one.id for one in self._hosts() if one.state is not HostState.ALIVE or one.new)
        if self._outranked is None or self._outranked[:3] != (primary.id, standby.id, unwell):
            self._outranked = (primary.id, standby.id, unwell, now)
        patience = AWAY_S if unwell else OUTRANKED_S
        return standby.id if now - self._outranked[3] >= patience else None

    async def _clear(self, held: Leadership, patroni: Patroni, fenced: frozenset[str]) -> None:
        """Let others try when whoever was to take over does not."""
        found = succession.withdrawal(patroni, fenced)
        now = self._clock.monotonic()
        if found is None or self._withdrawal is None or self._withdrawal[0] != found:
            self._withdrawal = (found, now) if found else None
        elif now - self._withdrawal[1] >= STALE_S:
            await self._withdraw(held, found)
            log.warning("others may take the database over", extra={"waited_s": STALE_S})

    async def _withdraw(self, held: Leadership, what: succession.Withdrawal) -> None:
        compares = [held.fence(), *what.compares]
        await self._mirror.until(await self._store.txn(compares, what.puts, what.deletes))


async def ensure_secrets(store: ClusterStore, held: Leadership) -> None:
    """A duty of the leader: the database's accounts have passwords. Ends when they have."""
    while True:
        with contextlib.suppress(Unavailable, StorageFull, StoreConflict):
            if await store.get(keys.DATABASE) is not None:
                return
            made = Secrets(*(secrets.token_urlsafe(SECRET_BYTES) for _ in range(4)))
            await store.txn([held.fence(), Unchanged(keys.DATABASE, 0)], [Put(keys.DATABASE, codec.encode(made))])
            return
        await asyncio.sleep(LOOK_EVERY_S)
