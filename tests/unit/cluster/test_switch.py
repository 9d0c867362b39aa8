"""The move of a store: complete or not at all, wherever it is cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from morgand.base.errors import StoreConflict, Unavailable
from morgand.cluster.local import LocalStore
from morgand.cluster.store import Changes, ClusterStore, Compare, Item, Put, QuietSince, Unchanged
from morgand.cluster.switch import MOVED, SwitchStore, set_aside

Items = list[Item]
KEYS = 250  # three batches


class Killed(BaseException):
    """The process ends here."""


class Remote:
    """Another store behind a network: call number ``fails`` meets ``end``, before it is performed or after."""

    def __init__(self, store: LocalStore, fails: int, end: BaseException, *, performed: bool) -> None:
        self._store, self._fails, self._end, self._performed = store, fails, end, performed
        self.calls = 0

    @property
    def alone(self) -> bool:
        return False

    async def get(self, key: str) -> Item | None:
        self._meet(after=False)
        item = await self._store.get(key)
        self._meet(after=True)
        return item

    async def list(self, prefix: str) -> tuple[Items, int]:
        self._meet(after=False)
        found = await self._store.list(prefix)
        self._meet(after=True)
        return found

    async def txn(self, compares: Sequence[Compare], puts: Sequence[Put], deletes: Sequence[str] = ()) -> int:
        self._meet(after=False)
        revision = await self._store.txn(compares, puts, deletes)
        self._meet(after=True)
        return revision

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Changes]:
        return self._store.watch(prefix, from_revision)

    async def close(self) -> None:
        await self._store.close()

    def _meet(self, *, after: bool) -> None:
        self.calls += not after
        if self.calls == self._fails and after is self._performed:
            raise self._end


async def filled(folder: Path) -> LocalStore:
    store = await LocalStore.open(folder)
    await store.txn([], [Put(f"/key/{number:03}", str(number).encode()) for number in range(KEYS)])
    await store.txn([], [Put("/key/000", b"changed")])
    return store


async def values(store: ClusterStore) -> dict[str, bytes]:
    return {item.key: item.value for item in (await store.list("/"))[0]}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    return tmp_path / "old", tmp_path / "new"


async def test_everything_moves_and_nothing_else_is_there(folders: tuple[Path, Path]) -> None:
    """Also over what an earlier attempt, at another state of the old store, has left."""
    old, new = await filled(folders[0]), await LocalStore.open(folders[1])
    await new.txn([], [Put("/key/001", b"stale"), Put("/gone", b"1")])
    before = await values(old)
    store = SwitchStore(old)
    await store.move(new)
    assert await values(store) == before
    assert await store.get(MOVED) is not None


@pytest.mark.parametrize("performed", [False, True])
@pytest.mark.parametrize("fails", range(1, 12))
async def test_a_move_that_is_killed_is_made_again(folders: tuple[Path, Path], fails: int, performed: bool) -> None:
    """At every call, before and after it was performed: the next start ends with the same keys, and writes stay."""
    new = await LocalStore.open(folders[1])
    remote = Remote(new, fails, Killed(), performed=performed)
    store = SwitchStore(await filled(folders[0]))
    before = await values(store)
    moved = await asyncio.gather(store.move(remote), return_exceptions=True)
    assert isinstance(moved[0], Killed) == (remote.calls >= fails)
    again = SwitchStore(await LocalStore.open(folders[0]), paused=True)  # the process starts anew
    written = asyncio.ensure_future(again.txn([], [Put("/written", b"1")]))
    await again.move(new)
    await written
    assert await values(again) == {**before, "/written": b"1"}
    assert again.alone is new.alone


@pytest.mark.parametrize("performed", [False, True])
@pytest.mark.parametrize("fails", range(1, 9))
async def test_a_move_that_meets_a_dead_network_loses_nothing(
    folders: tuple[Path, Path], fails: int, performed: bool
) -> None:
    """Either it reports failure and the old store goes on, or it has succeeded; the keys are the same."""
    new = await LocalStore.open(folders[1])
    store = SwitchStore(await filled(folders[0]))
    before = await values(store)
    try:
        await store.move(Remote(new, fails, Unavailable(), performed=performed))
    except Unavailable:
        assert await new.get(MOVED) is None
    await store.txn([], [Put("/written", b"1")])
    await store.move(new)
    assert await values(store) == {**before, "/written": b"1"}
    assert await values(new) == {**before, "/written": b"1"}


async def test_writes_wait_for_a_move_and_fall_on_the_new_store(folders: tuple[Path, Path]) -> None:
    old, new = await filled(folders[0]), await LocalStore.open(folders[1])
    store = SwitchStore(old)
    moving = asyncio.ensure_future(store.move(new))
    await asyncio.sleep(0)
    await asyncio.gather(*(store.txn([], [Put(f"/late/{number}", b"1")]) for number in range(5)))
    await moving
    assert len([key for key in await values(new) if key.startswith("/late/")]) == 5


async def test_a_watch_goes_on_in_the_new_store(folders: tuple[Path, Path]) -> None:
    """It hears everything anew, then what happens; one that begins with an old revision does too."""
    store = SwitchStore(await filled(folders[0]))
    _, revision = await store.list("/key/")
    watch, later = store.watch("/key/", revision), store.watch("/key/00", revision)
    heard = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    await store.move(await LocalStore.open(folders[1]))
    for changes in (await heard, await anext(later)):
        assert changes.resync
        assert changes.revision >= revision
    written = await store.txn([], [Put("/key/000", b"new")])
    for stream in (watch, later):
        changes = await anext(stream)
        assert (changes.resync, changes.revision) == (False, written)
        assert [(one.key, one.item and one.item.mod_revision) for one in changes.changes] == [("/key/000", written)]
    await store.close()
    with pytest.raises(StopAsyncIteration):
        await anext(watch)


async def test_what_was_read_before_the_move_can_no_longer_be_written_on(folders: tuple[Path, Path]) -> None:
    """Revisions only grow, so that no compare of before holds by chance after."""
    store = SwitchStore(await filled(folders[0]))
    item = await store.get("/key/001")
    assert item is not None
    _, revision = await store.list("/")
    await store.move(await LocalStore.open(folders[1]))
    for compare in (Unchanged(item.key, item.mod_revision), QuietSince("/key/", revision - 1)):
        with pytest.raises(StoreConflict, match="before the cluster store moved"):
            await store.txn([compare], [Put("/key/001", b"x")])
    now = await store.get("/key/001")
    assert now is not None
    assert now.mod_revision > revision
    await store.txn([Unchanged(now.key, now.mod_revision), Unchanged("/none", 0)], [Put("/key/001", b"x")])


async def test_a_host_that_joins_takes_what_is_there(folders: tuple[Path, Path]) -> None:
    old, new = await filled(folders[0]), await LocalStore.open(folders[1])
    await new.txn([], [Put("/cluster", b"theirs")])
    store = SwitchStore(old)
    await store.adopt(new)
    assert await values(store) == {"/cluster": b"theirs"}


async def test_the_old_files_are_kept_where_no_store_is_opened(folders: tuple[Path, Path]) -> None:
    await filled(folders[0])
    set_aside(folders[0])
    assert sorted(file.name for file in folders[0].iterdir()) == ["store.moved", "store.previous.moved"]
    assert await values(await LocalStore.open(folders[0])) == {}
    set_aside(folders[0])
