"""The same storage on a real PostgreSQL server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
from sqlalchemy import text

from morgand.errors import Conflict, NotFound, Unavailable
from morgand.state import Level
from morgand.storage.database import Database
from morgand.storage.history import SqlHistory
from morgand.storage.library import SqlLibrary
from morgand.storage.migrate import upgrade
from morgand.storage.purge import purge
from tests.fakes.postgres import binaries, server
from tests.fakes.schema import differences
from tests.fakes.storage import HandClock, extracted, new_document, tree

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(binaries() is None, reason="no PostgreSQL server is installed (initdb is not found)"),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server() as running:
        yield running


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """Empty, then upgraded by two processes' worth of callers at once."""
    opened, second = Database(url), Database(url)
    await opened.open()
    async with opened.change_schema() as connection:
        await connection.execute(text("DROP SCHEMA public CASCADE"))
        await connection.execute(text("CREATE SCHEMA public"))
    await asyncio.gather(upgrade(opened), upgrade(second), upgrade(opened, "pre"))
    yield opened
    await second.close()
    await opened.close()


async def test_the_models_are_the_sum_of_the_migrations(database: Database) -> None:
    """On PostgreSQL as on SQLite, and upgrading again changes nothing."""
    assert await differences(database) == []
    await upgrade(database)
    assert await differences(database) == []


async def test_a_missing_index_is_seen(database: Database) -> None:
    """The comparison can fail, for the full-text index too."""
    async with database.change_schema() as connection:
        await connection.execute(text("DROP INDEX ix_document_chunks_fulltext"))
        await connection.execute(text("ALTER TABLE feedback DROP COLUMN rating"))
    assert len(await differences(database)) == 2


async def test_turns_are_stored_once_and_retries_write(database: Database) -> None:
    """Fifty at once store one, and the commit of a retry reaches the write-ahead log."""
    history = SqlHistory(database, HandClock())
    conversation, turn = str(uuid4()), str(uuid4())

    async def say() -> None:
        await history.store_message(turn, conversation, "Hello\x00", tokens=1, user="ada")

    async def answer() -> None:
        await history.store_answer(turn, "Hi", tokens=1, citations=[], notices=[])

    await asyncio.gather(*(say() for _ in range(50)))
    await asyncio.gather(*(answer() for _ in range(50)))
    for retry in (say, answer):
        before = await written(database)
        await retry()
        assert await written(database) > before
    assert [message.text for message in await history.messages(conversation)] == ["Hello\ufffd", "Hi"]
    with pytest.raises(Conflict):
        await history.store_message(turn, str(uuid4()), "Hello\x00", tokens=1, user=None)


async def written(database: Database) -> int:
    """Bytes of write-ahead log."""
    async with database.read() as session:
        return int(await session.scalar(text("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")) or 0)


async def test_a_conversation_has_one_order_under_concurrent_turns(database: Database) -> None:
    """Every position is taken once."""
    history = SqlHistory(database, HandClock())
    conversation = str(uuid4())
    turns = [str(uuid4()) for _ in range(20)]
    await asyncio.gather(*(history.store_message(t, conversation, t, tokens=1, user=None) for t in turns))
    assert sorted(message.id for message in await history.messages(conversation)) == sorted(turns)
    await history.delete_conversation(conversation)
    with pytest.raises(NotFound):
        await history.messages(conversation)


async def test_documents_are_searched_replaced_and_deleted(database: Database) -> None:
    """The library's rules hold here as well."""
    clock = HandClock()
    library = SqlLibrary(database, clock)
    first, _ = await library.add(new_document("/docs/a", "1"))
    await library.complete(first.id, extracted(), tree(first.id, ["the boiler pressure", "soup"]))
    found = await library.keyword_search("What is the pressure of boilers?", Level.MEDIUM, limit=5)
    assert len(found) == 1
    for hostile in ("", "'", "a' | 'b", "the", "\x00", "\ud800", "!(&|:*<->", "🙂", "\\", "word " * 10_000):
        assert await library.keyword_search(hostile, Level.FINE, limit=5) == []
    second, _ = await library.add(new_document("/docs/a", "2"))
    assert await library.complete(second.id, extracted(), tree(second.id, ["new"], embedding=None)) == [first.id]
    missing = await library.without_embeddings(10)
    await library.set_embeddings({chunk.id: b"\1" * 8 for chunk in missing})
    assert (await library.document(second.id)).embeddings == 3
    await library.delete(second.id)
    assert await library.live() == {}
    clock.turn(2 * 86_400)
    assert await purge(database, clock, older_than_days=1) == 2


async def test_two_documents_of_a_source_completed_at_once_leave_the_newer(database: Database) -> None:
    """Whichever commits first."""
    library = SqlLibrary(database, HandClock())
    for _ in range(5):
        source = str(uuid4())
        (first, _), (second, _) = [await library.add(new_document(source, content)) for content in "12"]
        await asyncio.gather(
            library.complete(first.id, extracted(), tree(first.id, ["first"])),
            library.complete(second.id, extracted(), tree(second.id, ["second"])),
            return_exceptions=True,
        )
        assert first.id not in await library.live()
        assert len(await library.chunks(second.id)) == 3


async def test_a_server_that_is_gone_is_unavailable() -> None:
    """Nobody listens: said at once, in our words."""
    gone = Database("postgresql+asyncpg://morgan@/postgres?host=/nonexistent-folder")
    with pytest.raises(Unavailable):
        await gone.open()
    await gone.close()
