"""A real database on disk for conversations and documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from morgand.base.clock import SystemClock
from morgand.storage.database import Database, sqlite_url
from morgand.storage.history import SqlHistory
from morgand.storage.library import SqlLibrary
from morgand.storage.migrate import upgrade
from tests.fakes.assistant import FolderObjects, HashEmbedder, MemoryCache, MemoryVectors
from tests.fakes.ingestion import Bench


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(sqlite_url(tmp_path / "morgan.sqlite"))
    await opened.open()
    await upgrade(opened)
    yield opened
    await opened.close()


@pytest.fixture
def history(database: Database) -> SqlHistory:
    return SqlHistory(database, SystemClock())


@pytest.fixture
def library(database: Database) -> SqlLibrary:
    return SqlLibrary(database, SystemClock())


@pytest.fixture
def bench(library: SqlLibrary, tmp_path: Path) -> Bench:
    (tmp_path / "spool").mkdir()
    objects = FolderObjects(tmp_path / "objects")
    return Bench(library, objects, HashEmbedder(), MemoryVectors(), MemoryCache(), tmp_path / "spool")
