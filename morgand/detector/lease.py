"""This host's lease in memory that the detector's process and the daemon share, so that a look at it costs nothing.

The file has three 8-byte fields: a count that is odd while it is written, the lease's generation, and until when it
holds. Nobody has to be told that a lease ended: time does it, also while both processes stand still.
"""

from __future__ import annotations

import mmap
import os
import secrets
import struct
import time
from pathlib import Path

_WHOLE = struct.Struct("=QQd")
_COUNT = struct.Struct("=Q")
_LOOKS = 10
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while the machine sleeps, where there is one


def now_s() -> float:
    """The detector's clock: never set, and it counts sleep."""
    return time.clock_gettime(_CLOCK)


class LeaseWriter:
    """Makes the file, of mode 0600, with no lease in it."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _WHOLE.size)
            self._map = mmap.mmap(descriptor, _WHOLE.size)
        finally:
            os.close(descriptor)
        self._count, self._until = 0, 0.0
        self._generation = secrets.randbits(62)  # so that none is taken for one of the process before

    def write(self, until: float, now: float) -> None:
        """A lease that had ended before is a new one: its generation differs."""
        if self._until <= now < until:
            self._generation += 1
        self._until = until
        _COUNT.pack_into(self._map, 0, self._count + 1)
        _WHOLE.pack_into(self._map, 0, self._count + 1, self._generation, until)
        self._count += 2
        _COUNT.pack_into(self._map, 0, self._count)


class LeaseReader:
    """Of the daemon; opened again when the detector was started again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._map: mmap.mmap | None = None

    def open(self) -> None:
        """Raises OSError when there is no file yet."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(descriptor, _WHOLE.size, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)

    def generation(self) -> int:
        """Of the lease that holds now; 0 when none does."""
        if self._map is None:
            return 0
        for _ in range(_LOOKS):
            count, generation, until = _WHOLE.unpack_from(self._map)
            if count % 2 == 0 and _COUNT.unpack_from(self._map)[0] == count:
                return int(generation) if now_s() < until else 0
        return 0
