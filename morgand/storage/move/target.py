"""The PostgreSQL that a move fills: whose it is, what it holds, and batches written to it.

It is claimed under a marker, so that nobody's data are ever mixed, and locked for as long as its connection lives, so
that a copier which outlived its daemon does not write beside its successor.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self
from uuid import UUID

import asyncpg
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from morgand.base.errors import Conflict, Unavailable
from morgand.storage.commit import Wire, commit
from morgand.storage.database import Database
from morgand.storage.faults import translated
from morgand.storage.migrate import upgrade
from morgand.storage.move.rows import SHAPES, Raw, Shape, Sum

CONNECT_S = 10.0
COMMAND_S = 120.0
RECORD_S = 100.0  # for the standby to catch up; less than a command may take
LOCK = 0x4D6F7665  # "Move": the advisory lock of movers
KEYS = 20_000  # ids in one look for rows that are gone
# commits need not wait for the disk and the standby, but the last one, which comes after them all in the log
SESSION = {"application_name": "morgan move", "jit": "off", "timezone": "UTC", "lock_timeout": "10s"}

_CLAIMS = (
    "CREATE TABLE IF NOT EXISTS move "
    "(marker text PRIMARY KEY, state text NOT NULL, changed_at timestamptz NOT NULL, tables json)"
)


class MoveTarget:
    """Made by ``opened``."""

    def __init__(self, url: str, connection: Any) -> None:
        self._url = url
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str) -> AsyncIterator[Self]:
        """``url`` as for ``Database``; further parameters are those of libpq, e.g. ``sslmode`` and ``sslrootcert``.

        Raises Unavailable, also when another copier is at work there.
        """
        plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        with _translated():
            connection = await asyncpg.connect(
                plain, timeout=CONNECT_S, command_timeout=COMMAND_S, server_settings=SESSION
            )
        try:
            target = cls(plain, connection)
            await target._lock()
            yield target
        finally:
            connection.terminate()  # nothing is half done: every batch was a transaction

    async def claim(self, marker: str) -> None:
        """Make it the target of this move, with the tables of this program.

        Raises Conflict if it holds data of another move, of none, or of one that was finished.
        """
        with _translated():
            if await self._value("SHOW server_encoding") != "UTF8":
                raise Conflict("The PostgreSQL database is not in UTF-8.", remedy="Create it with ENCODING 'UTF8'.")
            async with self._connection.transaction():
                await self._connection.execute(_CLAIMS)
                claim = await self._connection.fetchrow("SELECT marker, state FROM move")
                if claim is None:
                    await self._refuse_foreign()
                    await self._connection.execute("INSERT INTO move VALUES ($1, 'copying', now())", marker)
                else:
                    _refuse_other(marker, claim["marker"], claim["state"])
        database = Database(_as_parameter(self._url))
        try:
            await upgrade(database)
        finally:
            await database.close()
        with _translated():
            for shape in SHAPES:
                await self._connection.execute(
                    f'CREATE TEMP TABLE "moving_{shape.name}" (LIKE "{shape.name}") ON COMMIT DELETE ROWS'
                )
            await self._connection.execute("SET synchronous_commit = off")

    async def revisions(self) -> set[str]:
        with _translated():
            found = await self._connection.fetch("SELECT version_num FROM alembic_version")
        return {row["version_num"] for row in found}

    async def record(self, marker: str, state: str, sums: Mapping[str, Sum]) -> None:
        """Say how far the move is. It and everything written before is on the standby, if there is one, on return.

        Raises Unavailable when that is not certain.
        """
        tables = json.dumps(
            {name: {"rows": one.rows, "checksum": f"{one.checksum:016x}"} for name, one in sums.items()}
        )
        store = "UPDATE move SET state = $2, changed_at = now(), tables = $3 WHERE marker = $1"
        wire = Wire(self._connection)
        wire.listen()
        with _translated():
            transaction = self._connection.transaction()
            await transaction.start()
            await self._connection.execute("SET LOCAL synchronous_commit = on")
            await self._connection.execute(store, marker, state, tables)
            await commit(transaction.commit, wire, within_s=RECORD_S)

    async def count(self, shape: Shape) -> int:
        return int(await self._value(f'SELECT count(*) FROM "{shape.name}"'))  # noqa: S608 - a name of ours

    async def ids(self, shape: Shape) -> AsyncIterator[list[str]]:
        """All ids in their order, 32 hexadecimal digits each, in lists of at most ``KEYS``."""
        last: UUID | None = None
        while True:
            over = "" if last is None else "WHERE id > $2"
            query = f'SELECT id FROM "{shape.name}" {over} ORDER BY id LIMIT $1'  # noqa: S608 - a name of ours
            with _translated():
                found = await self._connection.fetch(query, KEYS, *([] if last is None else [last]))
            if not found:
                return
            yield [row["id"].hex for row in found]
            last = found[-1]["id"]

    async def digests(self, shape: Shape, low: str | None, high: str | None) -> dict[str, str]:
        """By id: of rows over ``low`` up to ``high``; None is open."""
        bounds = [("id > ", low), ("id <= ", high)]
        given = [(what, UUID(bound)) for what, bound in bounds if bound is not None]
        where = " AND ".join(f"{what}${number}" for number, (what, _) in enumerate(given, 1)) or "true"
        query = f"SELECT encode(uuid_send(id), 'hex'), {shape.digest_sql} FROM \"{shape.name}\" WHERE {where}"  # noqa: S608 - names of ours
        with _translated():
            found = await self._connection.fetch(query, *(bound for _, bound in given))
        return {row[0]: row[1] for row in found}

    async def remove(self, shape: Shape, ids: Sequence[str]) -> None:
        with _translated():
            gone = [UUID(one) for one in ids]
            await self._connection.execute(f'DELETE FROM "{shape.name}" WHERE id = ANY($1)', gone)  # noqa: S608 - a name of ours

    async def put(self, shape: Shape, rows: Sequence[Raw]) -> None:
        """Insert rows, or replace those that are there; one transaction."""
        replaced = ", ".join(f'"{name}" = EXCLUDED."{name}"' for name in shape.columns[1:])
        merge = (
            f'INSERT INTO "{shape.name}" ({shape.listed}) SELECT {shape.listed} FROM "moving_{shape.name}" '  # noqa: S608 - names of ours
            f"ON CONFLICT (id) DO UPDATE SET {replaced}"
        )
        try:
            records = [shape.values(row) for row in rows]
        except ValueError as err:
            raise Conflict(f"Table {shape.name} holds a value that PostgreSQL cannot take ({err}).") from err
        with _translated():
            async with self._connection.transaction():
                await self._connection.copy_records_to_table(
                    f"moving_{shape.name}", records=records, columns=shape.columns
                )
                await self._connection.execute(merge)

    async def analyze(self) -> None:
        """Tell the planner what came: it knows of an empty table."""
        with _translated():
            for shape in SHAPES:
                await self._connection.execute(f'ANALYZE "{shape.name}"')

    async def _value(self, query: str) -> Any:
        with _translated():
            return await self._connection.fetchval(query)

    async def _lock(self) -> None:
        with _translated():
            try:
                await self._connection.execute(f"SELECT pg_advisory_lock({LOCK})")
            except asyncpg.LockNotAvailableError as err:
                raise Unavailable("Another move to this PostgreSQL is under way.") from err

    async def _refuse_foreign(self) -> None:
        for shape in SHAPES:
            if await self._value(f"SELECT to_regclass('public.\"{shape.name}\"')") is None:
                continue
            if await self._value(f'SELECT EXISTS (SELECT FROM "{shape.name}")'):  # noqa: S608 - a name of ours
                raise Conflict(
                    f"The PostgreSQL database holds data already (table {shape.name}) that no move of this cluster "
                    "brought there.",
                    remedy="Give Morgan an empty PostgreSQL.",
                )


def with_certificates(url: str, *, ca: str, certificate: str, key: str) -> str:
    """A URL over which both sides prove who they are, by files in PEM; the server's name is verified."""
    files = {"sslmode": "verify-full", "sslrootcert": ca, "sslcert": certificate, "sslkey": key}
    return make_url(url).update_query_dict(files).render_as_string(hide_password=False)


def _as_parameter(plain: str) -> str:
    """For SQLAlchemy, which hands the parameters of a URL to the driver one by one: not all may be given so."""
    return make_url("postgresql+asyncpg://").update_query_dict({"dsn": plain}).render_as_string(hide_password=False)


def _refuse_other(marker: str, found: str, state: str) -> None:
    if found != marker:
        raise Conflict(
            f"The PostgreSQL database is the target of another move ({found}).",
            remedy="Give Morgan an empty PostgreSQL.",
        )
    if state == "committed":
        raise Conflict("This move is done: the PostgreSQL database is in charge.")


@contextmanager
def _translated() -> Iterator[None]:
    """As of the rest of storage; what is neither the connection nor the disk is a refusal of what is moved."""
    try:
        with translated():
            try:
                yield
            except asyncpg.PostgresError as err:
                raise DBAPIError("", None, err) from err
    except DBAPIError as err:
        raise Conflict(f"PostgreSQL refuses what is moved there ({err.orig}).") from err
    except asyncpg.DataError as err:
        raise Conflict(f"PostgreSQL refuses what is moved there ({err}).") from err
    except asyncpg.InterfaceError as err:
        raise Unavailable(f"PostgreSQL cannot be reached ({err}).") from err
