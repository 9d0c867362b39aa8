"""Leading for as long as it lasts: win the election, plan, keep the hosts' states, and step back when another leads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Protocol

from morgand.base.aio import Pauses, isolated_task
from morgand.base.clock import Clock
from morgand.base.errors import Fenced, StorageFull, StoreConflict, Unavailable
from morgand.cluster import codec, election, fencing, keys
from morgand.cluster.election import Leadership
from morgand.cluster.mirror import Mirror
from morgand.cluster.snapshot import Inputs
from morgand.cluster.store import NOTHING, ClusterStore, Handoff, Item, Put, Unchanged
from morgand.leader import host_verdicts
from morgand.leader.planner import Planner
from morgand.roles.db.patroni_keys import holders_in, patroni_in
from morgand.roles.db.succession import takeover
from morgand.state.hosts import HostState, PeerHealth

log = logging.getLogger("morgand.leader")

PAUSE_S = 0.5
LOOK_EVERY_S = 0.5  # at the hosts, when nothing is heard of them
RETRY_S = 0.05
RESIGN_S = 1.0
VERDICT_S = 0.15  # the votes of the others come within a beat
Duty = Callable[[Leadership], Coroutine[Any, Any, None]]


class PeerHealthSource(Protocol):
    """What this host sees of the others."""

    def sight(self, host: str) -> PeerHealth | None:
        """None when nothing is known of it."""
        ...

    def next(self) -> asyncio.Event:
        """Set when something else is seen than at this call."""
        ...


class Leader:
    """``run`` never ends by itself. ``duties`` are further loops of whoever leads; each ends when cancelled."""

    def __init__(
        self, me: str, *, store: ClusterStore, mirror: Mirror, sights: PeerHealthSource, inputs: Callable[[], Inputs],
        clock: Clock, duties: Callable[[], tuple[Duty, ...]] = tuple,
    ) -> None:  # fmt: skip
        self._me, self._store, self._mirror, self._peer_healths = me, store, mirror, sights
        self._inputs, self._clock, self._duties = inputs, clock, duties
        self._held: Leadership | None = None

    @property
    def held(self) -> Leadership | None:
        """This host's own leadership, while it believes to have one."""
        return self._held

    async def run(self) -> None:
        """A defect of a duty costs the leadership: another host leads, or this one again after a pause."""
        pauses = Pauses()
        while True:
            pause_s = 0.0
            try:
                await isolated_task(self._campaign_and_lead())
            except* Fenced as group:
                log.info("leadership ended", extra={"reason": str(group.exceptions[0])})
            except* Unavailable as group:
                log.warning("cannot lead", extra={"reason": str(group.exceptions[0])})
                pause_s = PAUSE_S
            except* Exception as group:  # supervisor of the leader's duties
                pause_s = pauses.after_failure(self._clock.monotonic())
                log.exception("leadership given up: a defect", exc_info=group, extra={"again_in_s": pause_s})
                await self._resign()
            finally:
                self._held = None
            if pause_s:
                await self._clock.sleep(pause_s)

    async def _resign(self) -> None:
        """Whoever cannot be told now sees it when another takes over, or this host again."""
        if self._held is not None:
            with contextlib.suppress(Unavailable, StorageFull, TimeoutError):
                async with asyncio.timeout(RESIGN_S):
                    await election.resign(self._store, self._held)

    async def _campaign_and_lead(self) -> None:
        self._held = held = await election.campaign(self._store, self._me, self._lost)
        await self._poll(held)  # who is dead already, perhaps the last leader, is given up before anything is planned
        async with asyncio.TaskGroup() as group:
            group.create_task(Planner(self._store, held, self._inputs, self._clock).run(), name="planner")
            group.create_task(self._keep_hosts(held), name="hosts")
            group.create_task(self._until_superseded(held), name="superseded")
            for duty in self._duties():
                group.create_task(duty(held))

    async def _until_superseded(self, held: Leadership) -> None:
        while True:
            changed = self._mirror.next()
            item = self._mirror.get(keys.ELECTION)
            if item is not None and superseded(item, held):
                raise Fenced(f"Epoch {held.epoch} has ended: {election.election_record(item).host} leads.")
            await changed.wait()

    async def _lost(self, leader: str) -> None:
        """Return when ``leader`` is given up."""
        while True:
            changed = self._peer_healths.next()
            sight = self._peer_healths.sight(leader)
            if sight is not None and sight.dead:
                return
            await changed.wait()

    async def _keep_hosts(self, held: Leadership) -> None:
        """Write down which hosts are there.

        A new suspicion is written only when the verdict does not follow at once, which would have to wait for it.
        """
        suspects: frozenset[str] = frozenset()
        while True:
            changed = self._peer_healths.next()
            before, suspects = suspects, self._suspects()
            if suspects - before:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(VERDICT_S):
                        await changed.wait()
                continue
            pause_s = LOOK_EVERY_S if await self._poll(held) else RETRY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await changed.wait()

    def _suspects(self) -> frozenset[str]:
        """Hosts that this one holds for dead, and not yet enough of the others."""
        sights = {host: self._peer_healths.sight(host) for host in self._mirror.view.hosts}
        return frozenset(host for host, seen in sights.items() if seen is not None and seen.suspect and not seen.dead)

    async def _poll(self, held: Leadership) -> bool:
        """Judge the hosts once; False when something else changed meanwhile, and it has to be done again."""
        try:
            await self._judge(held)
        except StoreConflict:
            return False
        except (StorageFull, Unavailable) as err:
            log.debug("host states not written", extra={"reason": err.message})
        return True

    async def _judge(self, held: Leadership) -> None:
        view = self._mirror.view
        records = list(view.hosts.values())
        sights = {one.id: seen for one in records if one.peer and (seen := self._peer_healths.sight(one.id))}
        for record in host_verdicts.changes(records, sights, self._me, self._clock.now()):
            item = view.items[keys.host(record.id)]
            if record.state is HostState.FENCED:
                lease = view.items.get(keys.lease(record.id))  # of the same moment
                passed = self._passed(record.id, records)
                revision = await fencing.fence(
                    self._store, held, item, record, self._taken(record.id),
                    lease=lease.mod_revision if lease else 0, passed=passed,
                )  # fmt: skip
            else:
                compares = [held.fence(), Unchanged(item.key, item.mod_revision)]
                revision = await self._store.txn(compares, [Put(item.key, codec.encode(record))])
            await self._mirror.until(revision)
            log.warning("host changed", extra={"host": record.name, "state": record.state.value, "epoch": held.epoch})

    def _passed(self, host: str, records: Sequence[codec.HostRecord]) -> Handoff:
        """The database goes on where all is that it acknowledged, and Patroni counts on the host no more."""
        alive = frozenset(
            one.id
            for one in records
            if one.state in (HostState.ALIVE, HostState.SUSPECT) and one.id != host and self._lives(one.id)
        )
        passed = takeover(patroni_in(self._mirror), holders_in(self._mirror.view), host, alive) or NOTHING
        return replace(passed, deletes=(*passed.deletes, keys.PATRONI_MEMBERS + host))

    def _lives(self, host: str) -> bool:
        sight = self._peer_healths.sight(host)
        return host == self._me or (sight is not None and not sight.dead)

    def _taken(self, host: str) -> list[str]:
        """The assignments that a host loses when it is fenced; what it stores stays where it is."""
        specs = {spec.name: spec for spec in self._inputs().roles}
        return [
            keys.assignment(*one.slot)
            for one in self._mirror.view.assignments
            if one.host == host and not (one.role in specs and specs[one.role].keeps(one.engine, one.part))
        ]


def superseded(item: Item, held: Leadership) -> bool:
    """Whether the election key says that a leadership has ended; a copy of it from before it began says nothing.

    The same epoch at another revision is that of a truth that was moved to another store.
    """
    epoch = election.election_record(item).epoch
    return epoch > held.epoch or (epoch == held.epoch and item.mod_revision != held.revision)
