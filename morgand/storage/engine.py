"""The database library set up for SQLite and for PostgreSQL: pools, deadlines, and what every connection is told."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import URL, Connection, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, PoolProxiedConnection

from morgand.storage.commit import Wire

WRITERS, READERS = 6, 4  # apart: readers do not queue behind commits that wait for the standby; more are not faster
POOL_SIZE = WRITERS + READERS
POOL_DEADLINE_S = 10.0
POOL = {"pool_size": POOL_SIZE, "max_overflow": 0, "pool_timeout": POOL_DEADLINE_S}
COMMAND_DEADLINE_S = 30.0
CONNECT_DEADLINE_S = 5.0
WIRE = "wire"  # where a connection of the pool keeps its ``Wire``
ON_SERVER = {
    "application_name": "morgand",
    "synchronous_commit": "on",  # whatever the server's default is: COMMIT waits for the standby
    "idle_in_transaction_session_timeout": "60s",  # a frozen daemon holds no locks for ever
}


def sqlite_engine(url: URL, busy_timeout_ms: int) -> AsyncEngine:
    def prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        # transactions begin where ``begin`` says, not where the driver guesses: reads belong to them, and DDL
        connection.isolation_level = None
        cursor = connection.cursor()
        try:
            for pragma in (
                f"busy_timeout={busy_timeout_ms}",  # first: the next ones may have to wait
                "journal_mode=WAL",
                "synchronous=FULL",
                "foreign_keys=ON",
                "secure_delete=ON",  # what a person deleted is overwritten, not only forgotten
            ):
                cursor.execute(f"PRAGMA {pragma}")
        finally:
            cursor.close()

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    def abandon(connection: DBAPIConnection, _entry: ConnectionPoolEntry, _error: BaseException | None) -> None:
        # a statement that was interrupted would keep the closed connection, and its write lock, alive
        with contextlib.suppress(sqlite3.Error):
            connection.rollback()

    engine = create_async_engine(url, **POOL)
    event.listen(engine.sync_engine, "connect", prepare)
    event.listen(engine.sync_engine, "begin", begin)
    event.listen(engine.sync_engine, "invalidate", abandon)
    return engine


def postgres_engine(url: URL, opened: Callable[[Wire], None], *, read_only: bool = False) -> AsyncEngine:
    """``opened`` is told of every new connection. ``read_only``: the server refuses to write on them."""

    def prepare(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        wire = Wire(connection.driver_connection)
        wire.listen()
        entry.info[WIRE] = wire
        opened(wire)

    def checkout(
        _connection: DBAPIConnection, entry: ConnectionPoolEntry, _given: PoolProxiedConnection
    ) -> None:  # costs nothing, unlike a question to the server: a local socket tells when the other end is gone
        if entry.info[WIRE].driver.is_closed():
            raise DisconnectionError

    settings = ON_SERVER | ({"default_transaction_read_only": "on"} if read_only else {})
    deadlines = {"timeout": CONNECT_DEADLINE_S, "command_timeout": COMMAND_DEADLINE_S, "server_settings": settings}
    engine = create_async_engine(url, connect_args=deadlines, **POOL)
    event.listen(engine.sync_engine, "connect", prepare)
    event.listen(engine.sync_engine, "checkout", checkout)
    return engine


def migration_engine(url: URL, settings: Mapping[str, str]) -> AsyncEngine:
    """For one connection to PostgreSQL, with such settings on the server until its user changes them."""
    on_server = {**ON_SERVER, **settings}
    return create_async_engine(
        url, connect_args={"timeout": CONNECT_DEADLINE_S, "server_settings": on_server}, poolclass=NullPool
    )


async def connect(engine: AsyncEngine) -> AsyncConnection:
    return await engine.connect()


async def give_back(opening: asyncio.Task[AsyncConnection], places: asyncio.Semaphore) -> None:
    """A connection that is no longer wanted, as soon as it is made, and its place with it."""
    try:
        await asyncio.wait([opening])
        if opening.exception() is None:
            await opening.result().close()
    finally:
        places.release()


def wire_of(connection: AsyncConnection) -> Wire | None:
    """None for a file."""
    wire: Any = connection.info.get(WIRE)
    return wire if isinstance(wire, Wire) else None
