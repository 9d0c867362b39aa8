"""The database: connections, transactions, and the one place where its errors become ours.

SQLite runs in WAL with ``synchronous=FULL``: a commit that returned survives a power cut. It has one writer, so
writers queue here, with a deadline, and never meet ``database is locked`` half-way through. Readers do not wait.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from morgand.errors import Unavailable
from morgand.storage.faults import translated
from morgand.storage.models import Base

WRITE_DEADLINE_S = 10.0  # how long a writer waits for its turn
BUSY_TIMEOUT_MS = 5_000  # for another process that holds the file, e.g. a backup
COMMAND_DEADLINE_S = 30.0
CONNECT_DEADLINE_S = 5.0
POOL_SIZE = 5
POOL_OVERFLOW = 5
POOL_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Health:
    """``in_use`` of at most ``limit`` connections."""

    latency_ms: float
    in_use: int
    limit: int


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file, whatever characters its path has."""
    return make_url("sqlite+aiosqlite://").set(database=str(path)).render_as_string(hide_password=False)


class Database:
    """An engine and its rules. ``url`` is ``sqlite+aiosqlite:///PATH`` or ``postgresql+asyncpg://...``."""

    def __init__(
        self, url: str, *, write_deadline_s: float = WRITE_DEADLINE_S, busy_timeout_ms: int = BUSY_TIMEOUT_MS
    ) -> None:
        self._url = make_url(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._write_deadline_s = write_deadline_s
        self._busy_timeout_ms = busy_timeout_ms
        self._turn = asyncio.Lock()
        self._held = False
        self._engine = self._make_engine()
        # the same pool; on SQLite the write lock is taken at once instead of at the first change
        self._writer = self._engine.execution_options(begin="BEGIN IMMEDIATE") if self.is_sqlite else self._engine

    @property
    def url(self) -> str:
        """With its password, if it has one: not for logs."""
        return self._url.render_as_string(hide_password=False)

    async def open(self) -> None:
        """Make the file (mode 0600) if there is none, and connect. Raises StorageFull, Unavailable, MorganError."""
        if self.is_sqlite:
            await asyncio.to_thread(self._make_file)
        await self.health()

    async def close(self) -> None:
        await self._engine.dispose()

    def hold(self) -> None:
        """Refuse to read and write until ``admit``: the schema may not be there yet."""
        self._held = True

    def admit(self) -> None:
        self._held = False

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """One consistent reading."""
        self._check()
        with translated():
            async with (
                _connected(self._engine) as connection,
                AsyncSession(connection, expire_on_commit=False) as session,
            ):
                yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """One transaction: durable when the block is left without an error, gone otherwise."""
        self._check()
        with translated():
            async with (
                self._one_writer(),
                _connected(self._writer) as connection,
                AsyncSession(connection, expire_on_commit=False) as session,
                session.begin(),
            ):
                yield session

    @asynccontextmanager
    async def change_schema(self) -> AsyncIterator[AsyncConnection]:
        """One transaction for migrations, on a connection."""
        with translated():
            async with self._one_writer(), _connected(self._writer) as connection, connection.begin():
                yield connection

    @asynccontextmanager
    async def outside_transaction(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which every statement stands alone: for upkeep that no transaction allows."""
        with translated():
            async with self._one_writer(), _connected(self._engine) as connection:
                yield await connection.execution_options(isolation_level="AUTOCOMMIT")

    async def health(self) -> Health:
        """Ask something trivial. Raises Unavailable, StorageFull."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        with translated():
            async with _connected(self._engine) as connection:
                await connection.execute(text("SELECT 1"))
        pool = self._engine.pool
        in_use = pool.checkedout() if isinstance(pool, QueuePool) else 0
        return Health((loop.time() - started) * 1000, in_use, POOL_SIZE + POOL_OVERFLOW)

    def insert(self, model: type[Base]) -> postgresql.Insert | sqlite.Insert:
        """An INSERT that knows ON CONFLICT."""
        return sqlite.insert(model) if self.is_sqlite else postgresql.insert(model)

    def _check(self) -> None:
        if self._held:
            raise Unavailable("The database is not ready yet.", remedy="Try again in a moment.")

    @asynccontextmanager
    async def _one_writer(self) -> AsyncIterator[None]:
        if not self.is_sqlite:
            yield
            return
        try:
            async with asyncio.timeout(self._write_deadline_s):
                await self._turn.acquire()
        except TimeoutError as err:
            raise Unavailable("The database is busy with other writes.", remedy="Try again shortly.") from err
        try:
            yield
        finally:
            self._turn.release()

    def _make_file(self) -> None:
        path = self._url.database
        assert path, "an in-memory database would lose everything"
        with translated():
            Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def _make_engine(self) -> AsyncEngine:
        sizes = {"pool_size": POOL_SIZE, "max_overflow": POOL_OVERFLOW, "pool_timeout": POOL_DEADLINE_S}
        if not self.is_sqlite:
            deadlines = {"timeout": CONNECT_DEADLINE_S, "command_timeout": COMMAND_DEADLINE_S}
            return create_async_engine(self._url, pool_pre_ping=True, connect_args=deadlines, **sizes)
        engine = create_async_engine(self._url, **sizes)
        event.listen(engine.sync_engine, "connect", self._prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine

    def _prepare_sqlite(self, connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        # transactions begin where _begin_sqlite says, not where the driver guesses: reads belong to them, and DDL
        connection.isolation_level = None
        cursor = connection.cursor()
        try:
            for pragma in (
                f"busy_timeout={self._busy_timeout_ms}",  # first: the next ones may have to wait
                "journal_mode=WAL",
                "synchronous=FULL",
                "foreign_keys=ON",
                "secure_delete=ON",  # what a person deleted is overwritten, not only forgotten
            ):
                cursor.execute(f"PRAGMA {pragma}")
        finally:
            cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


@asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection of the pool. A caller that is cancelled while one is being made still gives it back."""
    opening = asyncio.ensure_future(_connect(engine))
    try:
        connection = await asyncio.shield(opening)
    except asyncio.CancelledError:
        await asyncio.wait([opening])
        if opening.exception() is None:
            await opening.result().close()
        raise
    try:
        yield connection
    finally:
        await asyncio.shield(connection.close())


async def _connect(engine: AsyncEngine) -> AsyncConnection:
    return await engine.connect()
