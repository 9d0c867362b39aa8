"""A cache inside the daemon (implements ``ports.Cache``): bounded in bytes, what was used longest ago goes first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from morgand.base.clock import Clock

ENTRY_BYTES = 200  # what an entry costs beside its key and value
MAX_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class CacheEntry:
    value: bytes
    ends: float  # monotonic

    def size(self, key: str) -> int:
        return len(self.value) + 4 * len(key) + ENTRY_BYTES


class MemoryCache:
    """Times are monotonic: a wall clock that jumps neither empties nor freezes it."""

    def __init__(self, clock: Clock, *, max_bytes: int = MAX_BYTES) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, CacheEntry] = OrderedDict()
        self.used_bytes = 0

    async def get(self, key: str) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.ends <= self._clock.monotonic():
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry.value

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """A value that does not fit even alone is not kept, and neither is what the key had before."""
        self._remove(key)
        entry = CacheEntry(value, self._clock.monotonic() + ttl_s)
        if ttl_s <= 0 or entry.size(key) > self._max_bytes:
            return
        self._entries[key] = entry
        self.used_bytes += entry.size(key)
        while self.used_bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))

    async def drop(self, prefix: str) -> None:
        for key in [key for key in self._entries if key.startswith(prefix)]:
            self._remove(key)

    def _remove(self, key: str) -> None:
        if entry := self._entries.pop(key, None):
            self.used_bytes -= entry.size(key)
