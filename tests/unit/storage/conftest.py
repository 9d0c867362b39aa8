"""A real database on disk, migrated, and a clock turned by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from morgand.storage.database import Database, sqlite_url
from morgand.storage.history import SqlHistory
from morgand.storage.library import SqlLibrary
from morgand.storage.migrate import upgrade
from tests.fakes.storage import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(sqlite_url(tmp_path / "db" / "morgan.sqlite"))
    await opened.open()
    await upgrade(opened)
    yield opened
    await opened.close()


@pytest.fixture
def history(database: Database, clock: HandClock) -> SqlHistory:
    return SqlHistory(database, clock)


@pytest.fixture
def library(database: Database, clock: HandClock) -> SqlLibrary:
    return SqlLibrary(database, clock)
