"""The disk that holds the data directory: size, room, and how long a small durable write takes."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from morgand.state import Disk

WRITES = 5
BLOCK = b"\0" * 4096
BUDGET_S = 2.0


def disk(data_dir: Path) -> Disk:
    """Raises OSError when the directory cannot be written."""
    usage = shutil.disk_usage(data_dir)
    return Disk(str(data_dir), usage.total // 2**20, usage.free // 2**20, fsync_ms(data_dir))


def fsync_ms(directory: Path) -> float:
    """Median time of a 4 KiB write with fsync, milliseconds."""
    times: list[float] = []
    started = time.monotonic()
    with tempfile.TemporaryFile(dir=directory) as file:
        while len(times) < WRITES and time.monotonic() - started < BUDGET_S:
            before = time.perf_counter()
            file.write(BLOCK)
            file.flush()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - before) * 1000)
    return round(statistics.median(times), 2)
