"""A real database, migrated and empty, on each engine, and a clock turned by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from morgand.storage.database import Database, sqlite_url
from morgand.storage.history import SqlHistory
from morgand.storage.library import SqlLibrary
from morgand.storage.migrate import upgrade
from morgand.storage.models import Base
from tests.fakes.postgres import needed, opened, server
from tests.fakes.storage import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with server() as running:
        yield running.url


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[Database]:
    sqlite = Database(sqlite_url(tmp_path / "db" / "morgan.sqlite"))
    await sqlite.open()
    await upgrade(sqlite)
    yield sqlite
    await sqlite.close()


@pytest.fixture
async def server_database(postgres: str) -> AsyncIterator[Database]:
    async with opened(postgres) as ours:
        yield ours


@pytest.fixture(params=["file", pytest.param("server_database", marks=[pytest.mark.engine, needed])])
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def history(database: Database, clock: HandClock) -> SqlHistory:
    return SqlHistory(database, clock)


@pytest.fixture
def library(database: Database, clock: HandClock) -> SqlLibrary:
    return SqlLibrary(database, clock)


@pytest.fixture
def anywhere(database: Database) -> Callable[[str], Awaitable[bool]]:
    """Whether a word is anywhere in the database: in any byte of the file, in any row of the server."""

    async def search(word: str) -> bool:
        if database.is_sqlite:
            folder = Path(make_url(database.url).database or "").parent
            return any(word.encode() in one.read_bytes() for one in folder.iterdir())
        async with database.read() as session:
            counts = [
                await session.scalar(
                    text(f"SELECT count(*) FROM {table} t WHERE t::text LIKE :word"), {"word": f"%{word}%"}
                )
                for table in Base.metadata.tables
            ]
        return any(counts)

    return search
