"""The copy of the truth in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from morgand.clock import SystemClock
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import Put


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
    async with following(store) as mirror, asyncio.timeout(5):
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
