"""The disk that holds the data directory, looked at once: size, room, and whether a small durable write succeeds."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from morgand.fingerprint.health import DiskProbe, high

WRITES = 5
BLOCK = b"\0" * 4096
BUDGET_S = 2.0


def probe(data_dir: Path) -> DiskProbe:
    """Blocking: on a disk that hangs, for as long as it does. What goes wrong is part of the answer."""
    total = free = 0
    times: list[float] = []
    fault: int | None = None
    try:
        usage = shutil.disk_usage(data_dir)
        total, free = usage.total, usage.free
        times = durable_writes(data_dir)
    except OSError as err:
        fault = err.errno or 0
    return DiskProbe(str(data_dir), total // 2**20, free // 2**20, high(times), fault)


def durable_writes(directory: Path) -> list[float]:
    """How long each of a few 4 KiB writes with fsync took, milliseconds. Raises OSError."""
    times: list[float] = []
    started = time.monotonic()
    with tempfile.TemporaryFile(dir=directory) as file:
        while len(times) < WRITES and time.monotonic() - started < BUDGET_S:
            before = time.perf_counter()
            file.write(BLOCK)
            file.flush()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - before) * 1000)
    return times
