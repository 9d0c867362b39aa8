"""The database: connections, transactions, and the one place where its errors become ours.

SQLite runs in WAL with ``synchronous=FULL``: a commit that returned survives a power cut. It has one writer, so
writers queue here, with a deadline, and never meet ``database is locked`` half-way through. Readers do not wait.

PostgreSQL is on this host, behind its Unix socket, and may lose its place as the primary at any moment: ``hold`` ends
what is under way, and a transaction of an epoch that is over does not commit (``term``, ``commit``).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

from sqlalchemy import URL, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.pool import QueuePool

from morgand.base.aio import wait_within
from morgand.base.errors import Fenced, Unavailable
from morgand.state.roles import COMING_S
from morgand.storage import term
from morgand.storage.commit import COMMIT_DEADLINE_S, Wire, commit
from morgand.storage.engine import (
    POOL_DEADLINE_S,
    POOL_SIZE,
    READERS,
    WRITERS,
    connect,
    give_back,
    postgres_engine,
    sqlite_engine,
    wire_of,
)
from morgand.storage.faults import translated
from morgand.storage.inflight import InFlight
from morgand.storage.models import Base

WRITE_DEADLINE_S = 10.0  # how long a writer waits for its turn
BUSY_TIMEOUT_MS = 5_000  # for another process that holds the file, e.g. a backup
COMING_LOOK_S = 0.05
SETTLE_S = 5.0  # what is under way on a file may take this long when another database takes over


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
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
        self, url: str, *, write_deadline_s: float = WRITE_DEADLINE_S, busy_timeout_ms: int = BUSY_TIMEOUT_MS,
        commit_deadline_s: float = COMMIT_DEADLINE_S, read_only: bool = False,
    ) -> None:  # fmt: skip
        """``read_only``: what a standby, or a primary that may not write, has; the server holds it to that."""
        self._read_only = read_only
        self._write_deadline_s = write_deadline_s
        self._commit_deadline_s = commit_deadline_s
        self._busy_timeout_ms = busy_timeout_ms
        self._turn = asyncio.Lock()
        self._change = asyncio.Lock()
        self._flight = InFlight()
        self._returning: set[asyncio.Task[None]] = set()
        self._held = False
        self._connected = True
        self._coming: Callable[[], bool] = lambda: False
        self._admitted = asyncio.Event()
        self._epoch = 0
        self._use(make_url(url))

    @property
    def url(self) -> str:
        """With its password, if it has one: not for logs."""
        return self._url.render_as_string(hide_password=False)

    async def open(self) -> None:
        """Make the file (mode 0600) if there is none, and connect. Raises StorageFull, Unavailable, MorganError."""
        if self.is_sqlite:
            await asyncio.to_thread(self._make_file)
        await self.health()

    async def connect(self, url: str) -> None:
        """Go over to another database, or to the same one by another way.

        Until this has succeeded reads and writes raise Unavailable, as while held. What is under way on a file gets
        ``SETTLE_S`` to finish, on a server none. Raises StorageFull, Unavailable, MorganError: then call it again.
        """
        async with self._change:
            self._connected = False
            await self._leave()
            self._use(make_url(url))
            await self.open()
            self._connected = True
            self._let_in()

    async def close(self) -> None:
        await self._leave()

    def hold(self) -> None:
        """Refuse to read and write until ``admit``: the schema may not be there yet, or the primary is elsewhere.

        What is under way on a server ends at once, with an unknown outcome. On a file it is let finish: whoever
        needs it to be finished enters ``change_schema``, after which nothing writes any more.
        """
        self._held = True
        if not self.is_sqlite:
            self._drop()

    @property
    def admits(self) -> bool:
        """Whether it can be used now."""
        return self._connected and not self._held

    def admit(self) -> None:
        self._held = False
        self._let_in()

    def expect(self, coming: Callable[[], bool]) -> None:
        """Whoever comes while nobody is admitted waits, up to ``COMING_S``, for as long as ``coming`` says that
        somebody will be soon: nobody else knows as early."""
        self._coming = coming

    async def begin_term(self, epoch: int) -> None:
        """Write in this epoch from now on; what still writes in an older one, anywhere, cannot commit any more.

        To be called on PostgreSQL after ``connect`` and the upgrade, before ``admit``; a file has no terms. Again with
        the same epoch is allowed. Raises Fenced when a newer epoch has begun, Unavailable.
        """
        if not self.is_sqlite:
            async with self._transaction() as session:
                await term.begin(session, epoch)
        self._epoch = epoch

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """One consistent reading."""
        await self._admission()
        with translated():
            async with (
                self._flight.entered(),
                self._connection(self._reader, self._readers) as connection,
                AsyncSession(connection, expire_on_commit=False) as session,
            ):
                self._check()  # again: it may have waited
                yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """One transaction: durable when the block is left without an error, gone otherwise.

        On PostgreSQL it is on the standby too, and Unavailable may mean either: try again under the same id.
        Raises Fenced, with nothing done, when a newer epoch has begun, and on a copy.
        """
        await self._admission()
        if self._read_only:
            raise Fenced("A copy of the database is only read.")
        async with self._transaction() as session:
            self._check()  # again: it may have waited
            if not self.is_sqlite:
                await term.confirm(session, self._epoch)
            yield session

    @asynccontextmanager
    async def change_schema(self) -> AsyncIterator[AsyncConnection]:
        """One transaction for migrations, on a connection; also while held."""
        with translated():
            async with (
                self._flight.entered(),
                self._one_writer(),
                self._connection(self._writer, self._writers) as connection,
                connection.begin() as transaction,
            ):
                yield connection
                await commit(transaction.commit, wire_of(connection), within_s=self._commit_deadline_s)

    @asynccontextmanager
    async def outside_transaction(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose statements stand alone, for upkeep that no transaction allows; also while held."""
        with translated():
            async with (
                self._flight.entered(),
                self._one_writer(),
                self._connection(self._engine, self._writers) as connection,
            ):
                yield await connection.execution_options(isolation_level="AUTOCOMMIT")

    async def health(self) -> DatabaseHealth:
        """Ask something trivial. Raises Unavailable, StorageFull."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        with translated():
            async with self._flight.entered(), self._connection(self._engine, self._readers) as connection:
                await connection.execute(text("SELECT 1"))
        pool = self._engine.pool
        in_use = pool.checkedout() if isinstance(pool, QueuePool) else 0
        return DatabaseHealth((loop.time() - started) * 1000, in_use, POOL_SIZE)

    def insert(self, model: type[Base]) -> postgresql.Insert | sqlite.Insert:
        """An INSERT that knows ON CONFLICT."""
        return sqlite.insert(model) if self.is_sqlite else postgresql.insert(model)

    def _let_in(self) -> None:
        if self.admits:
            waiting, self._admitted = self._admitted, asyncio.Event()
            waiting.set()

    async def _admission(self) -> None:
        """Raises Unavailable."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + COMING_S
        while not self.admits and self._coming() and loop.time() < deadline:
            await wait_within(self._admitted, COMING_LOOK_S)
        self._check()

    def _check(self) -> None:
        if not self.admits:
            raise Unavailable("The database is not ready yet.", remedy="Try again in a moment.")

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncSession]:
        with translated():
            async with (
                self._flight.entered(),
                self._one_writer(),
                self._connection(self._writer, self._writers) as connection,
                AsyncSession(connection, expire_on_commit=False) as session,
            ):
                yield session
                await session.flush()
                await commit(session.commit, wire_of(connection), within_s=self._commit_deadline_s)

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

    @asynccontextmanager
    async def _connection(self, engine: AsyncEngine, places: asyncio.Semaphore) -> AsyncIterator[AsyncConnection]:
        """A connection of the pool, which is waited for here: a wait in the pool could not be ended.

        Nor does a caller that is ended wait for a server that may not answer: it is given back when it is made.
        """
        try:
            async with asyncio.timeout(POOL_DEADLINE_S):
                await places.acquire()
        except TimeoutError as err:
            raise Unavailable("All database connections are in use.", remedy="Try again shortly.") from err
        opening = asyncio.create_task(connect(engine))
        try:
            yield await asyncio.shield(opening)
        finally:
            returning = asyncio.create_task(give_back(opening, places))
            self._returning.add(returning)
            returning.add_done_callback(self._returning.discard)
            if opening.done():
                await asyncio.shield(returning)

    async def _leave(self) -> None:
        """Close all connections."""
        if self.is_sqlite and not await self._flight.settled(SETTLE_S):
            self._flight.end()
        self._drop()
        await self._flight.settled(SETTLE_S)
        if self._returning:
            await asyncio.wait(self._returning, timeout=SETTLE_S)
        await self._engine.dispose()
        await asyncio.sleep(0)  # the loop closes dropped sockets in its next round

    def _use(self, url: URL) -> None:
        self._url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._drivers: WeakSet[Any] = WeakSet()  # the open connections of PostgreSQL's driver
        self._writers, self._readers = asyncio.Semaphore(WRITERS), asyncio.Semaphore(READERS)
        if self.is_sqlite:
            self._engine = sqlite_engine(url, self._busy_timeout_ms)
            # the same pool; the write lock is taken at once instead of at the first change
            self._writer, self._reader = self._engine.execution_options(begin="BEGIN IMMEDIATE"), self._engine
        else:
            self._engine = postgres_engine(url, self._opened, read_only=self._read_only)
            consistent = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            self._writer, self._reader = self._engine, self._engine.execution_options(**consistent)

    def _opened(self, wire: Wire) -> None:
        self._drivers.add(wire.driver)

    def _drop(self) -> None:
        """End what is under way. The sockets go first: what is cancelled on a closed one asks the server nothing."""
        for driver in list(self._drivers):
            driver.terminate()
        if not self.is_sqlite:
            self._flight.end()

    def _make_file(self) -> None:
        path = self._url.database
        assert path, "an in-memory database would lose everything"
        with translated():
            Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
