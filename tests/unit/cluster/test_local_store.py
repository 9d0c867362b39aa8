"""The lone host's store: etcd's model on one file."""

from __future__ import annotations

import asyncio
import errno
import threading
from pathlib import Path

import pytest

from morgand.base.errors import StorageFull, StoreConflict
from morgand.cluster.local import HISTORY, LocalStore
from morgand.cluster.store import Put, QuietSince, Unchanged
from morgand.cluster.storefile import FALLBACK_LEAP, DamagedStore, StoreContent, StoreFile


async def test_revisions_grow_and_survive_a_restart(tmp_path: Path) -> None:
    store = await LocalStore.open(tmp_path)
    assert await store.txn([], [Put("/a", b"1"), Put("/b", b"1")]) == 1
    assert await store.txn([], [Put("/a", b"2")]) == 2
    await store.close()
    again = await LocalStore.open(tmp_path)
    items, revision = await again.list("/")
    assert revision == 2
    assert [(one.key, one.value, one.create_revision, one.mod_revision) for one in items] == [
        ("/a", b"2", 1, 2),
        ("/b", b"1", 1, 1),
    ]


async def test_a_compare_that_does_not_hold_changes_nothing(tmp_path: Path) -> None:
    store = await LocalStore.open(tmp_path)
    await store.txn([Unchanged("/a", 0)], [Put("/a", b"1")])
    for compare in (Unchanged("/a", 0), Unchanged("/b", 1), QuietSince("/", 0)):
        with pytest.raises(StoreConflict):
            await store.txn([compare], [Put("/b", b"1")])
    assert await store.get("/b") is None
    await store.txn([Unchanged("/a", 1), QuietSince("/", 1)], [], ["/a"])
    assert await store.get("/a") is None


async def test_of_many_that_compare_the_same_one_wins(tmp_path: Path) -> None:
    store = await LocalStore.open(tmp_path)
    tries = [store.txn([Unchanged("/a", 0)], [Put("/a", str(number).encode())]) for number in range(10)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(one, int) for one in results) == 1


async def test_a_watch_tells_what_happened_and_begins_anew_after_a_gap(tmp_path: Path) -> None:
    store = await LocalStore.open(tmp_path)
    watch = store.watch("/a", 0)
    heard = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    await store.txn([], [Put("/b", b"1")])
    await store.txn([], [Put("/a1", b"1")])
    changes = await heard
    assert (changes.revision, [one.key for one in changes.changes], changes.resync) == (2, ["/a1"], False)
    for _ in range(HISTORY + 1):
        await store.txn([], [Put("/a2", b"x")])
    changes = await anext(watch)
    assert changes.resync
    assert [one.key for one in changes.changes] == ["/a1", "/a2"]
    await store.close()
    with pytest.raises(StopAsyncIteration):
        await anext(watch)


async def test_a_damaged_file_falls_back_to_the_generation_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Revisions leap, so that an epoch of the lost generation is never given twice."""
    store = await LocalStore.open(tmp_path)
    await store.txn([], [Put("/a", b"1")])
    await store.txn([], [Put("/a", b"2")])
    (tmp_path / "store").write_bytes(b"MORGAN-STORE-1\nrubbish")
    again = await LocalStore.open(tmp_path)
    item = await again.get("/a")
    assert item is not None
    assert item.value == b"1"
    assert await again.txn([], [Put("/a", b"3")]) == 1 + FALLBACK_LEAP + 1
    assert "damaged" in caplog.text


async def test_two_damaged_files_name_themselves_and_the_remedy(tmp_path: Path) -> None:
    for name in ("store", "store.previous"):
        (tmp_path / name).write_bytes(b"rubbish")
    with pytest.raises(DamagedStore, match=r"Restore .*store from a backup"):
        await LocalStore.open(tmp_path)


class FullFile(StoreFile):
    """A disk without room."""

    def write(self, content: StoreContent) -> None:
        raise StorageFull("The disk is full.") from OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_changes_nothing_in_memory(tmp_path: Path) -> None:
    store = LocalStore(FullFile(tmp_path), StoreContent(4, [("/a", b"1", 2, 3)]))
    with pytest.raises(StorageFull):
        await store.txn([], [Put("/a", b"2")], ["/b"])
    item = await store.get("/a")
    assert item is not None
    assert (item.value, (await store.list("/"))[1]) == (b"1", 4)


async def test_a_missing_directory_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    """Whatever the system says, the caller hears a Morgan error and the old content stays."""
    store = await LocalStore.open(tmp_path / "gone")
    with pytest.raises(Exception, match="cannot be used"):
        await store.txn([], [Put("/a", b"1")])
    assert await store.get("/a") is None


async def test_a_cancelled_caller_leaves_memory_and_file_together(tmp_path: Path) -> None:
    store = await LocalStore.open(tmp_path)
    caller = asyncio.ensure_future(store.txn([], [Put("/a", b"1")]))
    await asyncio.sleep(0.001)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    await store.close()
    again = await LocalStore.open(tmp_path)
    assert await again.get("/a") == await store.get("/a")


def test_there_is_a_file_at_every_moment(tmp_path: Path) -> None:
    """Whether a host has a store of its own decides how it begins in a cluster: it may be asked during a write."""
    file, seen = StoreFile(tmp_path), list[bool]()
    file.write(StoreContent(1, [("/a", b"1", 1, 1)]))

    def write() -> None:
        for number in range(2, 60):
            file.write(StoreContent(number, [("/a", b"1", 1, number)]))

    writing = threading.Thread(target=write)
    writing.start()
    while writing.is_alive():
        seen.append((tmp_path / "store").exists())
    writing.join()
    assert all(seen)
    assert (file.read().revision, StoreFile(tmp_path, "store.previous").read().revision) == (59, 58)
