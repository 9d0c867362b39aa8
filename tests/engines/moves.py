"""What the tests of the move from SQLite to PostgreSQL share: a file with some of everything, and those who use it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import insert, select

from morgand.base.clock import SystemClock
from morgand.base.errors import Unavailable
from morgand.storage.database import Database, sqlite_url
from morgand.storage.history import SqlHistory
from morgand.storage.library import SqlLibrary
from morgand.storage.migrate import upgrade
from morgand.storage.models import Base
from morgand.storage.move.mover import DatabaseMove, Progress
from morgand.storage.move.rows import TABLES
from morgand.storage.purge import purge
from tests.fakes.postgres import Server, binaries
from tests.fakes.storage import HandClock, added, completed, extracted, new_document, tree

MARKER = "cluster 1, move 1"
CLOCK = SystemClock()
Content = dict[str, dict[UUID, tuple[Any, ...]]]


def empty_database(running: Server) -> str:
    """The URL of a new one."""
    name = f"d{uuid4().hex}"
    running.sql(f"CREATE DATABASE {name}")
    return running.url.replace("/postgres?", f"/{name}?")


@asynccontextmanager
async def filled(folder: Path) -> AsyncIterator[Database]:
    """``morgan.db`` with some of everything."""
    async with opened(sqlite_url(folder / "morgan.db")) as database:
        await upgrade(database)
        await fill(database)
        yield database


async def fill(database: Database) -> None:
    """What a host makes, and values at the edges of their types."""
    history, library = SqlHistory(database, CLOCK), SqlLibrary(database, CLOCK)
    for number in range(8):
        turn, place = str(uuid4()), str(uuid4())
        await history.store_message(turn, place, f"Hello {number} \U0001f642 \x00 é", tokens=1, user="ada")
        await history.store_answer(turn, "Hi, -", tokens=1, citations=[], notices=["a, \u2028 'b' \\"])
        await history.add_feedback(place, turn, rating=5, comment=None, kind="rating")
        document, _ = await added(library, new_document(f"/docs/{number % 6}", str(number), f"machine {number % 2}"))
        chunks = tree(document.id, [f"boiler {number} {part}" for part in range(20)], embedding=bytes(range(256)) * 6)
        await completed(library, document.id, extracted(), chunks)
    await _bury(database)
    moment = datetime(1999, 12, 31, 23, 59, 59, 7, tzinfo=UTC)
    usual = {
        "created_at": moment,
        "updated_at": moment,
        "metadata": {"deep": [1, {"\x00": "\ud800"}]},
        "user": "",
    }
    values: list[Any] = [5, -1.5, 1e300, None, True, "5", "", [], {"a": None}, 12345678901234567890, "\x00"]
    rows = [
        {**usual, "id": uuid4(), "key": str(number), "value": value, "confidence": 0.1 + number / 3}
        for number, value in enumerate(values)
    ]
    rows += [
        {**usual, "id": UUID(int=0), "key": "first", "value": 0, "confidence": -0.0},
        {**usual, "id": UUID(int=2**128 - 1), "key": "last", "value": 0, "confidence": 5e-324},
    ]
    async with database.write() as session:
        await (await session.connection()).execute(insert(Base.metadata.tables["user_preferences"]), rows)


async def _bury(database: Database) -> None:
    """A conversation that is deleted, and so late that no purge meanwhile removes it."""
    late, turn = HandClock(), str(uuid4())
    late.wall = CLOCK.now() + timedelta(days=1)
    history = SqlHistory(database, late)
    await history.store_message(turn, None, "gone", tokens=1, user=None)
    left = await history.turn(turn)
    assert left is not None
    await history.delete_conversation(left.conversation)


async def content(database: Database) -> Content:
    """All rows as the program sees them."""
    found: Content = {}
    async with database.read() as session:
        for table in TABLES:
            rows = (await session.execute(select(table))).mappings()
            found[table.name] = {row["id"]: tuple(row.values()) for row in rows}
    return found


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def arrived(url: str, kept: Path | None) -> Content:
    """What PostgreSQL holds, which is what the old file holds."""
    assert kept is not None
    async with opened(url) as target, opened(sqlite_url(kept)) as old:
        there, here = await content(target), await content(old)
        for table in TABLES:
            assert there[table.name] == here[table.name]
            assert here[table.name]
    return there


def move(
    source: Database, url: str, report: Callable[[Progress], None] = lambda _: None, *, marker: str = MARKER
) -> DatabaseMove:
    return DatabaseMove(source, url, marker, CLOCK, report)


async def nothing() -> None:
    """The cluster agrees at once."""


def sql(running: Server, url: str, command: str) -> None:
    name = url.partition("morgan@/")[2].partition("?")[0]
    program: list[str | Path] = [binaries() / "psql", "-h", running.folder, "-U", "morgan", "-d", name]  # type: ignore[operator]
    subprocess.run([*program, "-XAtqc", command], check=True, capture_output=True)


class Writer:
    """Does all that is done to a database, without a pause, and remembers what was acknowledged."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._history, self._library = SqlHistory(database, CLOCK), SqlLibrary(database, CLOCK)
        self.said: list[str] = []
        self.gone: list[str] = []
        self.read_during_proof = 0
        self.proving = False

    def report(self, progress: Progress) -> None:
        self.proving = progress.stage == "verify"

    async def write(self) -> None:
        """Until the database belongs to PostgreSQL."""
        while True:
            try:
                await self.round()
            except Unavailable:
                return

    async def read(self) -> None:
        while True:
            try:
                await self._history.conversations()
            except Unavailable:
                return
            self.read_during_proof += self.proving
            await asyncio.sleep(0.005)

    async def round(self) -> None:
        """Three turns, a summary, a conversation and a document that go, one that comes, now and then a purge."""
        turns, place = [str(uuid4()) for _ in range(3)], str(uuid4())
        for turn in turns:
            await self._history.store_message(turn, place, turn, tokens=1, user="ada")
            self.said.append(turn)
        await self._history.store_answer(turns[0], "yes", tokens=1, citations=[], notices=[])
        await self._history.set_summary(place, "a summary", turns[1])  # keeps updated_at
        leaving = str(uuid4())
        await self._history.store_message(leaving, None, "soon gone", tokens=1, user=None)
        left = await self._history.turn(leaving)
        assert left is not None
        await self._history.delete_conversation(left.conversation)
        self.gone.append(leaving)
        document, _ = await added(self._library, new_document("/docs/0", str(uuid4())))  # replaces the one before
        chunks = tree(document.id, ["new", "text"], embedding=None)
        await completed(self._library, document.id, extracted(), chunks)
        await self._library.set_embeddings({chunk.id: b"\1" * 1536 for chunk in chunks[:2]})
        if len(self.gone) % 3 == 0:
            await purge(self._database, CLOCK, older_than_days=0)
