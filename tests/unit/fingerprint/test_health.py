"""How well a disk is: tables of what was found, and a real look at a directory."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from morgand.base.disk import DiskLevel as L
from morgand.fingerprint.disk import probe
from morgand.fingerprint.health import FULL_MB, LOOKS, ROOM_MB, SLOW_MS, SWIFT_MS, DiskProbe, high, judged

LARGE, SMALL = 1_000_000, 16_000  # MB


def found(
    free_mb: int = 500_000, *, total_mb: int = LARGE, fsync_ms: float = 1.0, fault: int | None = None
) -> DiskProbe:
    return DiskProbe("/data", total_mb, free_mb, fsync_ms, fault)


@pytest.mark.parametrize(
    ("before", "last", "expected"),
    [
        (L.WELL, found(), L.WELL),
        (L.WELL, found(1023), L.LOW),
        (L.LOW, found(1100), L.LOW),  # left later than entered
        (L.WELL, found(1100), L.WELL),
        (L.WELL, found(400, total_mb=SMALL), L.WELL),  # 2 % of a small disk are less than 1 GB
        (L.WELL, found(300, total_mb=SMALL), L.LOW),
        (L.WELL, found(199, total_mb=2000), L.LOW),
        (L.WELL, found(FULL_MB - 1), L.FULL),
        (L.WELL, found(FULL_MB), L.LOW),
        (L.FULL, found(ROOM_MB - 1), L.FULL),
        (L.FULL, found(ROOM_MB), L.LOW),
        (L.FULL, found(), L.WELL),
        (L.WELL, found(fault=errno.ENOSPC), L.FULL),  # inodes, or a quota
        (L.WELL, found(fault=errno.EROFS), L.READ_ONLY),
        (L.READ_ONLY, found(), L.WELL),
        (L.WELL, found(fault=errno.EIO), L.FAILING),
    ],
)
def test_what_is_made_of_one_look(before: L, last: DiskProbe, expected: L) -> None:
    assert judged(before, [last]).level is expected


def test_slow_is_what_was_slow_several_times_in_a_row() -> None:
    slow, swift = found(fsync_ms=SLOW_MS), found(fsync_ms=SWIFT_MS - 1)
    assert judged(L.WELL, [slow] * (LOOKS - 1)).level is L.WELL
    assert judged(L.WELL, [swift, *[slow] * (LOOKS - 1)]).level is L.WELL
    disk = judged(L.WELL, [slow] * LOOKS)
    assert (disk.level, disk.sick, disk.fsync_ms) == (L.SLOW, True, SLOW_MS)
    assert judged(L.SLOW, [slow, slow, found(fsync_ms=SWIFT_MS)]).level is L.SLOW
    assert judged(L.SLOW, [slow, slow, swift]).level is L.WELL


def test_little_space_is_no_reason_to_go_elsewhere() -> None:
    assert {level for level in L if judged(level, [found(500)]).sick} == set()
    assert judged(L.WELL, [found(0)]).sick


@pytest.mark.parametrize(
    ("times", "expected"), [([], 0.0), ([3.0], 3.0), ([float(one) for one in range(1, 101)], 95.0), ([9.0, 1.0], 9.0)]
)
def test_the_95th_percentile(times: list[float], expected: float) -> None:
    assert high(times) == expected


def test_a_real_disk_is_looked_at_and_left_as_it_was(tmp_path: Path) -> None:
    seen = probe(tmp_path)
    assert seen.fault is None
    assert seen.total_mb >= seen.free_mb > 0
    assert seen.fsync_ms > 0
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_looked_at_is_a_fault(tmp_path: Path) -> None:
    assert probe(tmp_path / "gone").fault == errno.ENOENT
