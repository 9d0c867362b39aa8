"""The in-process cache: bounded in time and bytes."""

from __future__ import annotations

from morgand.roles.cache.memory import ENTRY_BYTES, MemoryCache
from tests.fakes.storage import HandClock


async def test_a_value_is_there_until_its_time_is_over() -> None:
    """Monotonic time decides."""
    clock = HandClock()
    cache = MemoryCache(clock)
    await cache.set("a", b"1", ttl_s=10)
    clock.turn(9.9)
    assert await cache.get("a") == b"1"
    clock.turn(0.1)
    assert await cache.get("a") is None
    assert cache.used_bytes == 0


async def test_a_wall_clock_that_jumps_changes_nothing() -> None:
    """A day back does not make a value live longer."""
    clock = HandClock()
    cache = MemoryCache(clock)
    await cache.set("a", b"1", ttl_s=10)
    clock.turn(-86_400)
    clock.turn(10)
    assert await cache.get("a") is None


async def test_what_was_used_longest_ago_goes_first() -> None:
    """Reading counts as use."""
    cache = MemoryCache(HandClock(), max_bytes=3 * (ENTRY_BYTES + 4 + 100))
    for key in "abc":
        await cache.set(key, b"x" * 100, ttl_s=10)
    await cache.get("a")
    await cache.set("d", b"x" * 100, ttl_s=10)
    assert [key for key in "abcd" if await cache.get(key)] == ["a", "c", "d"]


async def test_a_value_over_the_bound_is_not_kept() -> None:
    """And the old value of its key is not served in its place."""
    cache = MemoryCache(HandClock(), max_bytes=1000)
    await cache.set("a", b"old", ttl_s=10)
    await cache.set("a", b"x" * 2000, ttl_s=10)
    assert await cache.get("a") is None
    assert cache.used_bytes == 0


async def test_a_prefix_is_dropped_and_nothing_else() -> None:
    """Search results go when documents change; conversations stay."""
    cache = MemoryCache(HandClock())
    for key in ("search:1", "search:2", "conversation:1"):
        await cache.set(key, b"v", ttl_s=10)
    await cache.drop("search:")
    assert [await cache.get(key) for key in ("search:1", "search:2", "conversation:1")] == [None, None, b"v"]
