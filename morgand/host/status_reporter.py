"""Publishes what this host says of itself: how its roles stand, and which had better be elsewhere, at once; how busy it
is, now and then."""

from __future__ import annotations

import logging
from collections.abc import Callable

import psutil

from morgand.base.aio import persist, wait_within
from morgand.base.clock import Clock
from morgand.base.errors import StorageFull, StoreConflict, Unavailable
from morgand.cluster import codec, keys
from morgand.cluster.store import ClusterStore, Put
from morgand.host.role_health import RoleHealth
from morgand.state.hosts import Usage
from morgand.state.roles import RoleFailure, RoleStatus

log = logging.getLogger("morgand.reporter")

GATHER_S = 0.1  # what comes so soon after a write waits for what comes with it
USAGE_EVERY_S = 15.0
RETRY_S = 0.5
VRAM_UNKNOWN = 0


class StatusReporter:
    """``run`` is a task. ``roles`` say how they stand; ``health`` is told of every change of them."""

    def __init__(
        self, me: str, store: ClusterStore, roles: Callable[[], list[RoleStatus]], health: RoleHealth, clock: Clock
    ) -> None:
        self._me, self._store, self._clock = me, store, clock
        self._roles, self._health = roles, health
        self._told: codec.HostStatus | None = None
        self._told_failures: tuple[RoleFailure, ...] | None = None
        self._wrote_at = -GATHER_S
        psutil.cpu_percent()  # the first call only sets the mark that the next one measures from

    async def run(self) -> None:
        while True:
            changed = self._health.next()
            await persist(
                self._write, log, "status not published", Unavailable, StorageFull, StoreConflict,
                clock=self._clock, pause_s=RETRY_S,
            )  # fmt: skip
            if await wait_within(changed, USAGE_EVERY_S) and self._clock.monotonic() - self._wrote_at < GATHER_S:
                await self._clock.sleep(GATHER_S)

    async def _write(self) -> None:
        await self._write_failures()
        usage = Usage(psutil.cpu_percent(), psutil.virtual_memory().used // (1 << 20), VRAM_UNKNOWN)
        status = codec.HostStatus(tuple(self._roles()), usage)
        if self._told is not None and status.roles == self._told.roles and not _busier(usage, self._told.usage):
            return
        await self._store.txn([], [Put(keys.status(self._me), codec.encode(status))])
        self._told, self._wrote_at = status, self._clock.monotonic()

    async def _write_failures(self) -> None:
        """Under a key of their own: what plans are made from must not change with every usage."""
        failures = self._health.failures()
        if failures == self._told_failures:
            return
        await self._store.txn([], [Put(keys.failures(self._me), codec.encode(codec.HostFailures(failures)))])
        self._told_failures = failures


def _busier(now: Usage, told: Usage) -> bool:
    """Whether the difference is worth a write that every host hears."""
    return abs(now.cpu_pct - told.cpu_pct) >= 10 or abs(now.ram_mb - told.ram_mb) >= 256
