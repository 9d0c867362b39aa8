"""This host's PostgreSQL, asked through its Unix socket: what it is now, and whether Morgan's database is there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import URL

from morgand.base.errors import Unavailable
from morgand.roles.db.promotion import ServerState
from morgand.roles.db.site import APPLICATION, SUPERUSER, DbSite, Secrets

DEADLINE_S = 1.0
MAKE_DEADLINE_S = 30.0  # what is written waits for the standby
# InternalClientError: it is used in the moment in which the server says that it ends the connection
FAULTS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
_LOOK = (
    "SELECT pg_is_in_recovery(), (SELECT pid FROM pg_stat_wal_receiver WHERE status = 'streaming'),"
    " pg_last_wal_replay_lsn()::text"
)
_PART = "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = ANY($1::text[])"
_STIR = "SELECT set_config('synchronous_commit', 'local', true), pg_logical_emit_message(true, 'morgan', '')"
_MADE = "SELECT 1 FROM pg_roles JOIN pg_database ON datname = rolname WHERE rolname = $1"
QUIET = {"log_statement": "none", "log_min_error_statement": "panic"}  # a password is in what is sent


class LocalServer:
    """One connection is kept for looking."""

    def __init__(self, site: DbSite, secrets: Secrets, sockets: Path) -> None:
        self._site, self._secrets, self._sockets = site, secrets, sockets
        self._connection: Any = None
        self._receiver: int | None = None  # the process that received when last looked
        self._replayed: str | None = None  # how far it was then

    @property
    def url(self) -> str:
        """Of Morgan's database, with its password: not for logs."""
        where = {"host": str(self._sockets), "port": str(self._site.postgres_port)}
        url = URL.create(
            "postgresql+asyncpg", APPLICATION, self._secrets.application, database=APPLICATION, query=where
        )
        return url.render_as_string(hide_password=False)

    async def look(self) -> ServerState:
        try:
            async with asyncio.timeout(DEADLINE_S):
                if self._connection is None:
                    self._connection = await self._connect()
                standby, receiver, replayed = await self._connection.fetchrow(_LOOK)
        except FAULTS:
            await self.close()
            return ServerState.GONE
        if not standby:
            return ServerState.PRIMARY
        before, self._receiver = self._receiver, receiver
        gets_on, self._replayed = replayed != self._replayed, replayed
        # one that is refused what it asks for, over and over, says that it streams for a moment each time
        if receiver is not None and receiver == before:
            return ServerState.STREAMING
        return ServerState.REPLAYING if gets_on else ServerState.BEHIND

    async def part_with(self, standbys: Sequence[str]) -> bool:
        """End what sends to these members, so that Patroni has commits wait for others; whether that was done.

        Without it they wait for ``wal_sender_timeout``.
        """
        return await self._execute(_PART, standbys)

    async def stir(self) -> bool:
        """Give the standbys something to confirm; whether that was done.

        Commits that no longer wait for a lost one are let go when one of the others next says how far it is, which it
        does when it gets something new, or once a second (PostgreSQL 15, src/backend/replication/syncrep.c).
        """
        return await self._execute(_STIR)

    async def read_access(self) -> bool:
        """Have the server read again who may connect; whether it was asked."""
        return await self._execute("SELECT pg_reload_conf()")

    async def ensure_application(self) -> None:
        """Make Morgan's role and its database if they are not there. Raises Unavailable."""
        try:
            async with asyncio.timeout(MAKE_DEADLINE_S):
                if self._connection is not None and await self._connection.fetchval(_MADE, APPLICATION):
                    return
                connection = await self._connect(**QUIET)
                try:
                    await self._make(connection)
                finally:
                    await _end(connection)
        except FAULTS as err:
            raise Unavailable(f"Morgan's database cannot be made: {type(err).__name__}.") from err

    async def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await _end(connection)

    async def _execute(self, command: str, *values: object) -> bool:
        if self._connection is None:
            return False
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._connection.execute(command, *values)
        except FAULTS:
            return False
        return True

    async def _make(self, connection: Any) -> None:
        if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", APPLICATION):
            quoted = await connection.fetchval("SELECT quote_literal($1::text)", self._secrets.application)
            await connection.execute(f"CREATE ROLE {APPLICATION} LOGIN PASSWORD {quoted}")
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", APPLICATION):
            await connection.execute(f"CREATE DATABASE {APPLICATION} OWNER {APPLICATION}")

    async def _connect(self, **settings: str) -> Any:
        return await asyncpg.connect(
            host=str(self._sockets), port=self._site.postgres_port, user=SUPERUSER,
            password=self._secrets.superuser, database="postgres",
            server_settings={"application_name": "morgand", **settings},
        )  # fmt: skip


async def _end(connection: Any) -> None:
    """Without the server's consent where it does not answer."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            await connection.close()
    except FAULTS:
        with contextlib.suppress(*FAULTS):
            connection.terminate()
