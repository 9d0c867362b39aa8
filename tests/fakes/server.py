"""Morgan's API in this process: the real application on loopback and on a Unix socket, over the fake backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from morgand.api.backend import Backend
from morgand.api.http import make_app, make_runner
from morgand.api.service import ApiContext
from morgand.base.clock import SystemClock
from morgand.config import LimitsConfig
from morgand.state.ports import History, Library
from morgand.storage.database import Database, sqlite_url
from morgand.storage.history import SqlHistory
from morgand.storage.library import SqlLibrary
from morgand.storage.migrate import upgrade
from tests.fakes.backend import make_backend


@dataclass
class Served:
    """``session`` speaks to the Unix socket; ``url`` and ``key`` are for TCP."""

    url: str
    key: str
    session: aiohttp.ClientSession
    backend: Backend
    service: ApiContext
    limits: list[LimitsConfig]  # one, replaced by tests while it runs


def of(database: Database) -> tuple[History, Library]:
    """The ports that a lone host has."""
    return SqlHistory(database, SystemClock()), SqlLibrary(database, SystemClock())


@asynccontextmanager
async def served(
    folder: Path, ports: Callable[[Database], tuple[History, Library]] = of,
    make: Callable[[History, Library, Path], Backend] = make_backend,
) -> AsyncIterator[Served]:  # fmt: skip
    database = Database(sqlite_url(folder / "db" / "morgan.sqlite"))
    await database.open()
    await upgrade(database)
    (folder / "spool").mkdir(exist_ok=True)
    backend = make(*ports(database), folder / "spool")
    limits = [LimitsConfig()]
    service = ApiContext(backend, lambda: limits[0])
    _, key = await backend.keys.create("test")
    runners = [make_runner(make_app(service, trusted=trusted)) for trusted in (True, False)]
    for runner in runners:
        await runner.setup()
    socket = folder / "s"
    await web.UnixSite(runners[0], str(socket)).start()
    await web.TCPSite(runners[1], "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runners[1].addresses[0][1]}"
    session = aiohttp.ClientSession("http://localhost", connector=aiohttp.UnixConnector(str(socket)))
    try:
        yield Served(url, key, session, backend, service, limits)
    finally:
        await session.close()
        for runner in runners:
            await runner.cleanup()
        await database.close()
