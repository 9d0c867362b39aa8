"""The copy of the truth in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from morgand.base.clock import SystemClock
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import Item, Put


@asynccontextmanager
async def following(store: LocalStore) -> AsyncIterator[Mirror]:
    mirror = Mirror(store, SystemClock())
    running = asyncio.create_task(mirror.run())
    try:
        yield mirror
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_it_follows_writes_and_deletions(tmp_path: Path) -> None:
    """Who takes ``next`` before reading misses no change."""
    store = await LocalStore.open(tmp_path)
    await store.txn([], [Put("/a/1", b"1"), Put("/b/1", b"2")])
    async with following(store) as mirror, asyncio.timeout(30):
        while not mirror.list("/a/"):
            await mirror.next().wait()
        changed = mirror.next()
        revision = await store.txn([], [Put("/a/2", b"3")], ["/b/1"])
        await changed.wait()
        assert [item.key for item in mirror.list("/")] == ["/a/1", "/a/2"]
        assert (mirror.revision, mirror.current) == (revision, True)


async def test_a_write_of_ones_own_can_be_waited_for(tmp_path: Path) -> None:
    store = await LocalStore.open(tmp_path)
    mirror = Mirror(store, SystemClock())
    await mirror.until(await store.txn([], [Put("/a", b"1")]))
    found = mirror.get("/a")
    assert found is not None
    assert found.value == b"1"


class Counted(LocalStore):
    """How often everything was read."""

    read = 0

    async def list(self, prefix: str) -> tuple[list[Item], int]:
        self.read += 1
        return await super().list(prefix)


async def test_not_everything_is_read_for_what_a_watch_brings_in_a_moment(tmp_path: Path) -> None:
    store = await Counted.open(tmp_path)
    assert isinstance(store, Counted)
    async with following(store) as mirror, asyncio.timeout(30):
        while not mirror.current:
            await mirror.next().wait()
        before = store.read
        for number in range(20):
            await mirror.until(await store.txn([], [Put("/a", str(number).encode())]))
        found = mirror.get("/a")
        assert found is not None
        assert (found.value, store.read) == (b"19", before)


class Slow(LocalStore):
    """Its readings arrive when ``go`` is set; what they say is of before."""

    go: asyncio.Event | None = None

    async def list(self, prefix: str) -> tuple[list[Item], int]:
        found = await super().list(prefix)
        if self.go is not None:
            await self.go.wait()
        return found


async def test_a_reading_that_arrives_late_takes_nothing_back(tmp_path: Path) -> None:
    """The watch was faster: what it told stays, and nothing after it is missed."""
    store = cast("Slow", await Slow.open(tmp_path))
    async with following(store) as mirror, asyncio.timeout(30):
        while not mirror.current:
            await mirror.next().wait()
        store.go = asyncio.Event()
        reading = asyncio.create_task(mirror.until(mirror.revision + 1))
        await asyncio.sleep(0)
        for number in range(3):
            last = await store.txn([], [Put("/a", str(number).encode())])
        while mirror.revision < last:
            await mirror.next().wait()
        store.go.set()
        await reading
        found = mirror.get("/a")
        assert found is not None
        assert (found.value, mirror.revision) == (b"2", last)
