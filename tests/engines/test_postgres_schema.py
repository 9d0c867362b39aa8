"""The schema on a real PostgreSQL server. What is stored in it: ``tests/unit/storage`` runs on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import text

from morgand.storage.database import Database
from morgand.storage.migrate import upgrade
from tests.fakes.postgres import needed, server
from tests.fakes.schema import differences

pytestmark = [pytest.mark.engine, needed]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server() as running:
        yield running.url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """Empty, then upgraded by two processes' worth of callers at once."""
    opened, second = Database(url), Database(url)
    await opened.open()
    async with opened.change_schema() as connection:
        await connection.execute(text("DROP SCHEMA public CASCADE"))
        await connection.execute(text("CREATE SCHEMA public"))
    await asyncio.gather(upgrade(opened), upgrade(second), upgrade(opened, post=0))
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
