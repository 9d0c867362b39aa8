"""A host's file on its way into PostgreSQL: what counts is what the store says, whenever the host is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from morgand.base.errors import EngineError, StoreConflict, Unavailable
from morgand.cluster import codec, keys
from morgand.cluster.codec import HostRecord
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import Put, Unchanged
from morgand.roles.db.patroni_keys import ENGINE, PRIMARY, STANDBY
from morgand.roles.db.relocation import Relocation
from morgand.roles.db.succession import MoveRequest
from morgand.state.roles import Assignment
from morgand.storage.database import Database, sqlite_url
from morgand.storage.move.old_file import note_of, write_note
from tests.fakes.clusters import EMBEDDED, profile
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
        self.clock = clock = Yielding()
        self.mirror = Mirror(store, clock)
        self.mover = Relocation(
            "a", self.database, self.file, cluster=lambda: "c1", url=lambda host: f"postgresql://{host}", store=store,
            mirror=self.mirror, clock=clock,
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
    assert asked == MoveRequest("b", MARKER, alone=True)
    await scene.store.txn([], [Put(keys.MOVED, codec.encode(MARKER)), Put(keys.MOVE, codec.encode(None))])
    async with asyncio.timeout(10):
        await committing


async def hosts(scene: Scene, *names: str) -> None:
    """Hosts that have PostgreSQL; the file is on a, PostgreSQL's cluster has chosen b, the others have copies."""
    facts = profile(engines=(*EMBEDDED, ENGINE))
    db = [Assignment("db", PRIMARY, "a", "sqlite", 3, "why")]
    db += [Assignment("db", STANDBY if name == "b" else "replica", name, ENGINE, 3, "why") for name in names[1:]]
    puts = [Put(keys.PATRONI_LEADER, b"b")]
    for name in names:
        puts.append(Put(keys.host(name), codec.encode(HostRecord(name, name, "192.0.2.1"))))
        puts.append(Put(keys.profile(name), codec.encode(facts)))
    puts += [Put(keys.assignment(*one.slot), codec.encode(one)) for one in db]
    await scene.store.txn([], puts)
    await scene.mirror.load()


async def test_where_there_is_a_third_host_the_file_stays_in_charge_until_it_has_everything(scene: Scene) -> None:
    """The loss of the new primary costs nothing then. Where no copy comes about the move is made all the same."""
    await hosts(scene, "a", "b", "c")
    assert scene.mover._target() is None
    scene.clock.turn(170.0)
    assert scene.mover._target() is None
    await scene.store.txn([], [Put(keys.PATRONI_SYNC, b'{"leader":"b","sync_standby":"c"}')])
    await scene.mirror.load()
    assert scene.mover._target() == ("b", "postgresql://b")
    await scene.store.txn([], [Put(keys.PATRONI_SYNC, b'{"leader":"b","sync_standby":null}')])
    await scene.mirror.load()
    assert scene.mover._target() is None
    with pytest.raises(Unavailable, match="a copy first"):  # of a move that was begun before
        await scene.mover._commit("b")
    assert await scene.request() is None
    scene.clock.turn(20.0)
    assert scene.mover._target() == ("b", "postgresql://b")


async def test_of_two_hosts_nobody_is_waited_for(scene: Scene) -> None:
    """The host of the file can have a copy only when it has the file no more."""
    await hosts(scene, "a", "b")
    assert scene.mover._target() == ("b", "postgresql://b")


async def test_without_a_leader_the_file_stays_in_charge(scene: Scene) -> None:
    """It says so only when the request surely counts no more, not even one that is still on its way."""
    write_note(scene.file, "another/move")
    with pytest.raises(Unavailable, match="No leader"):
        await scene.mover._commit("b")
    assert await scene.request() is None
    with pytest.raises(StoreConflict):
        await scene.store.txn([Unchanged(keys.MOVE, 0)], [Put(keys.MOVE, codec.encode(MoveRequest("b", MARKER)))])
    assert note_of(scene.file).exists()
