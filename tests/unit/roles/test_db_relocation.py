"""A host's file on its way into PostgreSQL: what counts is what the store says, whenever the host is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from morgand.base.errors import EngineError, StoreConflict, Unavailable
from morgand.cluster import codec, keys
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import Put, Unchanged
from morgand.roles.db.relocation import Relocation
from morgand.roles.db.succession import MoveRequest
from morgand.storage.database import Database, sqlite_url
from morgand.storage.move.old_file import note_of, write_note
from tests.fakes.storage import HandClock

MARKER = "c1/a"


class Yielding(HandClock):
    """Lets others have their turn while it is turned."""

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(0.01)
        self.turn(delay_s / 10)


class Scene:
    def __init__(self, store: LocalStore, folder: Path) -> None:
        self.store, self.file = store, folder / "morgan.db"
        self.database = Database(sqlite_url(self.file))
        clock = Yielding()
        self.mover = Relocation(
            "a", self.database, self.file, cluster=lambda: "c1", url=lambda _: None, store=store,
            mirror=Mirror(store, clock), clock=clock,
        )  # fmt: skip

    async def request(self) -> MoveRequest | None:
        item = await self.store.get(keys.MOVE)
        if item is None or item.value == codec.encode(None):
            return None
        return codec.decode(MoveRequest, item.value, key=item.key)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    (tmp_path / "cluster").mkdir()
    store = await LocalStore.open(tmp_path / "cluster")
    made = Scene(store, tmp_path)
    yield made
    await made.database.close()
    await store.close()


async def test_a_file_that_was_never_moved_is_served(scene: Scene) -> None:
    await scene.mover.settle()
    assert await scene.store.get(keys.MOVE) is None


async def test_a_file_whose_move_was_broken_off_is_served_once_its_request_is_gone(scene: Scene) -> None:
    """A leader that comes to a request later must not pass the primary on from under a file that serves."""
    write_note(scene.file, MARKER)
    asked = await scene.store.txn([], [Put(keys.MOVE, codec.encode(MoveRequest("b", MARKER)))])
    await scene.mover.settle()
    assert await scene.request() is None
    with pytest.raises(StoreConflict):
        await scene.store.txn([Unchanged(keys.MOVE, asked)], [Put(keys.MOVED, codec.encode(MARKER))])


async def test_a_file_that_was_moved_is_put_away_instead_of_served(scene: Scene) -> None:
    await scene.database.open()
    await scene.database.close()
    write_note(scene.file, MARKER)
    await scene.store.txn([], [Put(keys.MOVED, codec.encode(MARKER))])
    with pytest.raises(EngineError, match="in PostgreSQL now"):
        await scene.mover.settle()
    assert not scene.file.exists()
    assert list(scene.file.parent.glob("morgan.db.moved-*"))


async def test_the_leader_passes_the_primary_on(scene: Scene) -> None:
    """The request says where to; the mark of this move is the answer."""
    write_note(scene.file, MARKER)
    committing = asyncio.create_task(scene.mover._commit("b"))
    async with asyncio.timeout(10):
        while (asked := await scene.request()) is None:
            await asyncio.sleep(0.001)
    assert asked == MoveRequest("b", MARKER)
    await scene.store.txn([], [Put(keys.MOVED, codec.encode(MARKER)), Put(keys.MOVE, codec.encode(None))])
    async with asyncio.timeout(10):
        await committing


async def test_without_a_leader_the_file_stays_in_charge(scene: Scene) -> None:
    """It says so only when the request surely counts no more, not even one that is still on its way."""
    write_note(scene.file, "another/move")
    with pytest.raises(Unavailable, match="No leader"):
        await scene.mover._commit("b")
    assert await scene.request() is None
    with pytest.raises(StoreConflict):
        await scene.store.txn([Unchanged(keys.MOVE, 0)], [Put(keys.MOVE, codec.encode(MoveRequest("b", MARKER)))])
    assert note_of(scene.file).exists()
