"""The leader's loop: read a snapshot, plan, commit under the fence. One canonical log line per cycle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from morgand.base.clock import Clock
from morgand.base.errors import StorageFull, StoreConflict, Unavailable
from morgand.cluster import keys
from morgand.cluster.election import Leadership
from morgand.cluster.fencing import INPUTS, commit_plan
from morgand.cluster.snapshot import Inputs, read_snapshot
from morgand.cluster.store import Changes, ClusterStore
from morgand.cluster.view import View, view_of
from morgand.scheduler.plan import plan
from morgand.state.plans import Plan, Snapshot

log = logging.getLogger("morgand.planner")

ATTEMPTS = 5  # at one plan, when the store changes under it
TICK_S = 30.0  # a cycle this often even if nothing was heard
RETRY_S = 1.0  # after one that could not be committed


class Planner:
    """Plans for as long as it leads. ``run`` ends with Fenced when another host has taken over."""

    def __init__(self, store: ClusterStore, leadership: Leadership, inputs: Callable[[], Inputs], clock: Clock) -> None:
        self._store = store
        self._leadership = leadership
        self._inputs = inputs
        self._clock = clock
        self._view: View | None = None

    async def run(self) -> None:
        """Plan at once, then whenever hosts, profiles, assignments or settings change. Raises Fenced."""
        _, revision = await self._store.list(keys.ELECTION)
        watch = self._store.watch("/", revision)
        pending: asyncio.Task[Changes] | None = None
        try:
            while True:
                tick_s = TICK_S if await self._cycle_or_wait() else RETRY_S
                pending, heard = await self._next(watch, pending, tick_s)
                while heard is not None and not _concerns(heard):
                    pending, heard = await self._next(watch, pending, tick_s)
        finally:
            if pending is not None:
                pending.cancel()
                await asyncio.gather(pending, return_exceptions=True)

    async def cycle(self) -> Plan:
        """One plan, made and committed. Raises Fenced, Unavailable, and StoreConflict after the last attempt."""
        started = self._clock.monotonic()
        for attempt in range(1, ATTEMPTS + 1):
            self._view = await view_of(self._store, self._view)
            snapshot = read_snapshot(self._view, self._inputs())
            result = plan(snapshot)
            try:
                if not result.empty:
                    await commit_plan(self._store, self._leadership, result, snapshot.epoch)
            except StoreConflict:
                continue
            self._notify(snapshot, result, attempt, (self._clock.monotonic() - started) * 1000)
            return result
        raise StoreConflict(f"The cluster store changed {ATTEMPTS} times while a plan was made.")

    async def _cycle_or_wait(self) -> bool:
        """A cycle; a store that cannot take it now is logged, and tried again soon."""
        try:
            await self.cycle()
        except (StoreConflict, StorageFull, Unavailable) as err:
            log.warning("plan not committed", extra={"epoch": self._leadership.epoch, "reason": err.message})
            return False
        return True

    async def _next(
        self, watch: Any, pending: asyncio.Task[Changes] | None, tick_s: float
    ) -> tuple[asyncio.Task[Changes] | None, Changes | None]:
        """The next news (None when the tick came first). The same waiting task is kept over ticks."""
        pending = pending or asyncio.ensure_future(anext(watch))
        tick = asyncio.ensure_future(self._clock.sleep(tick_s))
        try:
            await asyncio.wait({pending, tick}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pending.cancel()
            raise
        finally:
            tick.cancel()
        if not pending.done():
            return pending, None
        try:
            return None, pending.result()
        except StopAsyncIteration:
            raise Unavailable("The cluster store is closed.") from None

    def _notify(self, snapshot: Snapshot, result: Plan, attempt: int, took_ms: float) -> None:
        log.log(
            logging.DEBUG if result.empty else logging.INFO,
            "planned",
            extra={
                "cause": result.id, "revision": result.revision, "epoch": snapshot.epoch,
                "hosts": len(snapshot.hosts), "assignments": len(result.assignments),
                "added": [f"{one.role}/{one.part}@{one.host}" for one in result.added],
                "removed": [f"{one.role}/{one.part}@{one.host}" for one in result.removed],
                "refused": [f"{one.role}/{one.part}" for one in result.refusals],
                "attempt": attempt, "took_ms": round(took_ms, 1),
            },
        )  # fmt: skip


def _concerns(heard: Changes) -> bool:
    return heard.resync or any(change.key.startswith(INPUTS) for change in heard.changes)
