"""Looks at the disk of the data directory every few seconds, so that the cluster hears early of one that fails."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace

from morgand.base.clock import Clock
from morgand.base.disk import Disk, DiskLevel
from morgand.fingerprint.health import LOOKS, DiskProbe, judged

log = logging.getLogger("morgand.disk")

LOOK_EVERY_S = 5.0
PATIENCE_S = 10.0  # with one look: a disk that hangs for longer is slow, whatever comes of it


class DiskMonitor:
    """``look`` once, before anything else; ``run`` is a task. ``probe`` looks at the disk, blocking: in a thread."""

    def __init__(self, probe: Callable[[], DiskProbe], clock: Clock) -> None:
        self._probe, self._clock = probe, clock
        self._probes: deque[DiskProbe] = deque(maxlen=LOOKS)
        self._looking: asyncio.Future[DiskProbe] | None = None
        self._disk: Disk | None = None

    def found(self) -> Disk:
        """As it was found last."""
        assert self._disk is not None, "look first"
        return self._disk

    async def look(self) -> None:
        """Look once. A look that hangs is left alone, and waited for by the next ones."""
        began = self._clock.monotonic()
        self._looking = self._looking or asyncio.ensure_future(asyncio.to_thread(self._probe))
        done, _ = await asyncio.wait((self._looking,), timeout=PATIENCE_S)
        if done:
            self._probes.append(self._looking.result())
            self._looking = None
        elif self._probes:
            waited_ms = (self._clock.monotonic() - began) * 1000
            self._probes.append(replace(self._probes[-1], fsync_ms=waited_ms))
        else:  # nothing is known of it yet: it counts as well until it is
            self._probes.append(await self._looking)
            self._looking = None
        before = self._disk.level if self._disk is not None else DiskLevel.WELL
        self._disk = judged(before, tuple(self._probes))

    async def run(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Until cancelled. ``changed`` is told when the disk has got better or worse."""
        while True:
            before = self.found().level
            await self.look()
            disk = self.found()
            if disk.level is not before:
                facts = {"level": disk.level.value, "free_mb": disk.free_mb, "fsync_ms": disk.fsync_ms}
                log.log(logging.WARNING if disk.sick else logging.INFO, "disk", extra=facts)
                await changed()
            await self._clock.sleep(LOOK_EVERY_S)
