"""The watch over the disk, with looks that are told what they find."""

from __future__ import annotations

import asyncio
import errno
import threading

import pytest

from morgand.base.clock import SystemClock
from morgand.base.disk import DiskLevel
from morgand.fingerprint.health import LOOKS, DiskProbe
from morgand.host import disk_monitor
from morgand.host.disk_monitor import DiskMonitor

WELL = DiskProbe("/data", 100_000, 50_000, 1.0)
FULL = DiskProbe("/data", 100_000, 0, 0.0, errno.ENOSPC)


class Quick(SystemClock):
    """Pauses are short."""

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(min(delay_s, 0.01))


async def test_who_listens_hears_of_changes_and_of_nothing_else() -> None:
    found = iter([WELL, WELL, FULL, FULL, WELL])
    heard: list[DiskLevel] = []
    over = asyncio.Event()
    watch = DiskMonitor(lambda: next(found, WELL), Quick())

    async def changed() -> None:
        heard.append(watch.found().level)
        if len(heard) == 2:
            over.set()

    await watch.look()
    assert watch.found().level is DiskLevel.WELL
    running = asyncio.create_task(watch.run(changed))
    async with asyncio.timeout(10):
        await over.wait()
    running.cancel()
    assert heard == [DiskLevel.FULL, DiskLevel.WELL]


async def test_a_disk_that_hangs_is_slow_and_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread waits for it, however long it takes; when it answers again it is judged anew."""
    monkeypatch.setattr(disk_monitor, "PATIENCE_S", 0.35)
    free, asked = threading.Event(), 0

    def look() -> DiskProbe:
        nonlocal asked
        asked += 1
        if asked > 1:
            free.wait(30)
        return WELL

    watch = DiskMonitor(look, Quick())
    for _ in range(1 + LOOKS):
        await watch.look()
    assert (watch.found().level, asked) == (DiskLevel.SLOW, 2)
    free.set()
    await watch.look()
    assert watch.found().level is DiskLevel.WELL
