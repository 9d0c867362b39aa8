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
from morgand.cluster.election import Leadership
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import ClusterStore, Handoff, Put, Unchanged
from morgand.leader.db_primary_plan import PrimaryReading, PrimaryState, decide
from morgand.roles.db.patroni_keys import holders_in, patroni_in
from morgand.roles.db.site import Secrets
from morgand.roles.db.succession import Withdrawal
from morgand.state.hosts import Host
from morgand.state.roles import RolePreference

log = logging.getLogger("morgand.primary")

LOOK_EVERY_S = 0.5
SECRET_BYTES = 24


class PrimaryKeeper:
    """``run`` for as long as a leadership lasts: reads, has ``db_primary_plan`` decide, and writes that."""

    def __init__(
        self, store: ClusterStore, mirror: Mirror, clock: Clock, *, hosts: Callable[[], Sequence[Host]],
        preference: Callable[[], RolePreference],
    ) -> None:  # fmt: skip
        self._store, self._mirror, self._clock = store, mirror, clock
        self._hosts, self._preference = hosts, preference
        self._state = PrimaryState()

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
        self._state, changes = decide(self._read(), self._state)
        for change in changes:
            await self._mirror.until(await self._write(held, change.write))
            level = logging.DEBUG if change.quiet else logging.WARNING
            log.log(level, change.what, extra={"host": change.host, "reason": change.cause})

    def _read(self) -> PrimaryReading:
        view = self._mirror.view
        return PrimaryReading(
            patroni_in(self._mirror), holders_in(view), self._mirror.get(keys.MOVE), list(view.hosts.values()),
            written={host: view.items[keys.host(host)].mod_revision for host in view.hosts},
            hosts=self._hosts(), preference=self._preference(), now=self._clock.monotonic(),
        )  # fmt: skip

    async def _write(self, held: Leadership, write: Handoff | Withdrawal) -> int:
        """Returns the revision. Raises StoreConflict, StorageFull, Unavailable."""
        if isinstance(write, Handoff):
            return await fencing.hand_on(self._store, held, write)
        return await self._store.txn([held.fence(), *write.compares], write.puts, write.deletes)


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
