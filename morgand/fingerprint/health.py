"""How well a disk is: a function of what the last looks at it found, and of what it was taken for before.

A level is left later than it is entered, so that a disk at the border does not move the database to and fro. One slow
write proves nothing (another program may be copying a film): slow is what was slow in several looks in a row.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from morgand.base.disk import Disk, DiskLevel

LOOKS = 3  # in a row that a disk has to be slow
LOW_MB = 1024  # on a large disk; 2 % of a smaller one, but never less than LEAST_LOW_MB
LOW_SHARE = 0.02
LEAST_LOW_MB = 200
FULL_MB = 64  # etcd and PostgreSQL take their next log in pieces of 64 and 16 MB
ROOM_MB = 128  # so much must be free before a full disk counts as well again
SLOW_MS = 300.0  # etcd wants 10; a bad SD card takes 100
SWIFT_MS = 150.0  # a slow disk counts as well again below this
AGAIN = 1.25  # of the border of low, to leave it
FULL = (errno.ENOSPC, errno.EDQUOT)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True, slots=True)
class DiskProbe:
    """One look at a disk. ``fsync_ms``: what 95 % of its small durable writes stayed under. ``fault``: the errno of
    the one that failed, None when all succeeded."""

    path: str
    total_mb: int
    free_mb: int
    fsync_ms: float
    fault: int | None = None


def judged(before: DiskLevel, probes: Sequence[DiskProbe]) -> Disk:
    """The disk as these looks show it, the latest one last. ``before``: the level it had."""
    last = probes[-1]
    lately = probes[-LOOKS:]
    quickest = min(one.fsync_ms for one in lately)
    level = _level(before, last, quickest if len(lately) == LOOKS else 0.0)
    return Disk(last.path, last.total_mb, last.free_mb, round(quickest, 2), level)


def high(times: Sequence[float]) -> float:
    """The 95th percentile, by nearest rank; 0 when there are none."""
    ordered = sorted(times)
    return ordered[-(-len(ordered) * 95 // 100) - 1] if ordered else 0.0


def _level(before: DiskLevel, last: DiskProbe, quickest_ms: float) -> DiskLevel:
    if last.fault is not None:
        return _of_fault(last.fault)
    if last.free_mb < (ROOM_MB if before is DiskLevel.FULL else FULL_MB):
        return DiskLevel.FULL
    if (last.fsync_ms >= SWIFT_MS) if before is DiskLevel.SLOW else (quickest_ms >= SLOW_MS):
        return DiskLevel.SLOW
    border = max(LEAST_LOW_MB, min(LOW_MB, last.total_mb * LOW_SHARE))
    was_low = before in (DiskLevel.LOW, DiskLevel.FULL)
    return DiskLevel.LOW if last.free_mb < border * (AGAIN if was_low else 1) else DiskLevel.WELL


def _of_fault(fault: int) -> DiskLevel:
    if fault in FULL:
        return DiskLevel.FULL
    return DiskLevel.READ_ONLY if fault in CLOSED else DiskLevel.FAILING
