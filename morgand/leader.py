"""Leading for as long as it lasts: win the election, plan, keep the hosts' states, and step back when another leads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from morgand.clock import Clock
from morgand.cluster import codec, election, hosts, keys
from morgand.cluster.election import Leadership
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import ClusterStore, Put, Unchanged
from morgand.errors import Fenced, StorageFull, StoreConflict, Unavailable
from morgand.planner import Inputs, Planner
from morgand.sights import PROBE_EVERY_S, Sights

log = logging.getLogger("morgand.leader")

PAUSE_S = 0.5
Duty = Callable[[Leadership], Coroutine[Any, Any, None]]


class Leader:
    """``run`` never ends by itself. ``duties`` are further loops of whoever leads; each ends when cancelled."""

    def __init__(
        self, me: str, *, store: ClusterStore, mirror: Mirror, sights: Sights, inputs: Callable[[], Inputs],
        clock: Clock, duties: Callable[[], tuple[Duty, ...]] = tuple,
    ) -> None:  # fmt: skip
        self._me, self._store, self._mirror, self._sights = me, store, mirror, sights
        self._inputs, self._clock, self._duties = inputs, clock, duties
        self._held: Leadership | None = None

    @property
    def held(self) -> Leadership | None:
        """This host's own leadership, while it believes to have one."""
        return self._held

    async def run(self) -> None:
        while True:
            unavailable = False
            try:
                self._held = await election.campaign(self._store, self._me, self._sights.lost)
                await self._lead(self._held)
            except* Fenced as group:
                log.info("leadership ended", extra={"reason": str(group.exceptions[0])})
            except* Unavailable as group:
                log.warning("cannot lead", extra={"reason": str(group.exceptions[0])})
                unavailable = True
            finally:
                self._held = None
            if unavailable:
                await self._clock.sleep(PAUSE_S)

    async def _lead(self, held: Leadership) -> None:
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
            if item is not None and election.office(item).epoch > held.epoch:
                raise Fenced(f"Epoch {held.epoch} has ended: {election.office(item).host} leads.")
            await changed.wait()

    async def _keep_hosts(self, held: Leadership) -> None:
        """Write down which hosts are there."""
        while True:
            try:
                await self._judge(held)
            except (StoreConflict, StorageFull, Unavailable) as err:
                log.debug("host states not written", extra={"reason": err.message})
            await self._clock.sleep(PROBE_EVERY_S)

    async def _judge(self, held: Leadership) -> None:
        items = {item.key: item for item in self._mirror.list(keys.HOSTS)}
        records = [codec.decode(codec.HostRecord, item.value, key=key) for key, item in items.items()]
        sights = {one.id: self._sights.of(one.id) for one in records if one.id != self._me and one.peer}
        for record in hosts.changes(records, sights, self._me):
            key = keys.host(record.id)
            compares = [held.fence(), Unchanged(key, items[key].mod_revision)]
            await self._mirror.until(await self._store.txn(compares, [Put(key, codec.encode(record))]))
            log.warning("host changed", extra={"host": record.name, "state": record.state.value, "epoch": held.epoch})
