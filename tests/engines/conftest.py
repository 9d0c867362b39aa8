"""What tests of real engines share: patience with etcd, a PostgreSQL for each file of tests, and databases on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from morgand.cluster import etcd, etcd_store, etcd_watch
from morgand.storage.database import Database
from tests.engines.moves import empty_database, filled
from tests.fakes.postgres import Server, opened, server


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Clients of etcd give up late: no test is to fail by a machine that stands still. Sets another patience."""

    def become(seconds: float) -> None:
        for module in (etcd, etcd_store, etcd_watch):
            monkeypatch.setattr(module, "PATIENCE_S", seconds)

    become(30.0)
    return become


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server() as started:
        yield started


@pytest.fixture
async def database(running: Server) -> AsyncIterator[Database]:
    """With the schema and without data."""
    async with opened(running.url) as ready:
        yield ready


@pytest.fixture
def url(running: Server) -> str:
    """Of an empty database, where a move may lead."""
    return empty_database(running)


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Database]:
    """A SQLite file with some of everything, for a move to begin with."""
    async with filled(tmp_path) as database:
        yield database
