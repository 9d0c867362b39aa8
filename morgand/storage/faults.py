"""Errors of the databases, translated: what happened, in our words, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from morgand.base.aio import cancellation_first
from morgand.base.errors import Conflict, InvalidInput, MorganError, StorageFull, Unavailable

# primary result codes, https://sqlite.org/rescode.html (the low byte of the extended ones)
SQLITE_PERM, SQLITE_BUSY, SQLITE_LOCKED, SQLITE_READONLY, SQLITE_IOERR = 3, 5, 6, 8, 10
SQLITE_CORRUPT, SQLITE_FULL, SQLITE_CANTOPEN, SQLITE_CONSTRAINT, SQLITE_NOTADB = 11, 13, 14, 19, 26

FREE = "Nothing was half-written. Free some space on the disk of the data directory and try again."
WRITABLE = "Make the data directory writable for the user that runs morgand."
RESTORE = "Stop morgand, keep a copy of the data directory, and restore the database from a backup."
WAIT = "Try again shortly."


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the database library raises into our errors; leave faults of the program as they are."""
    with cancellation_first():
        try:
            yield
        except DBAPIError as err:
            if (ours := _of_database(err)) is None:
                raise
            raise ours from err
        except asyncpg.InternalClientError as err:  # used in the moment in which the server ends the connection
            raise Unavailable("The connection to the database was lost.", remedy=WAIT) from err
        except PoolTimeout as err:
            raise Unavailable("All database connections are in use.", remedy=WAIT) from err
        except OSError as err:  # the server's socket, or the file
            raise _of_system(err) from err


def _of_database(err: DBAPIError) -> MorganError | None:
    original = err.orig
    code = getattr(original, "sqlite_errorcode", None)
    if isinstance(code, int):
        return _of_sqlite(code & 0xFF, str(original))
    state = getattr(original, "sqlstate", None)
    if isinstance(state, str):
        return _of_postgres(state, str(original))
    if err.connection_invalidated:
        return Unavailable("The connection to the database was lost.", remedy=WAIT)
    return None


def _of_sqlite(code: int, said: str) -> MorganError | None:
    if code == SQLITE_FULL:
        return StorageFull("The disk is full.", remedy=FREE)
    if code == SQLITE_IOERR:
        return StorageFull(f"The disk of the database refuses work ({said}).", remedy=FREE)
    if code in (SQLITE_READONLY, SQLITE_CANTOPEN, SQLITE_PERM):
        return StorageFull(f"The database cannot be written ({said}).", remedy=WRITABLE)
    if code in (SQLITE_BUSY, SQLITE_LOCKED):
        return Unavailable("Another program holds the database.", remedy=WAIT)
    if code in (SQLITE_CORRUPT, SQLITE_NOTADB):
        return MorganError(f"The database file is damaged ({said}).", remedy=RESTORE)
    if code == SQLITE_CONSTRAINT:
        return Conflict(f"The change contradicts what is stored ({said}).")
    return None


def _of_postgres(state: str, said: str) -> MorganError | None:
    """By SQLSTATE, https://www.postgresql.org/docs/current/errcodes-appendix.html."""
    if state == "53100":
        return StorageFull("The disk of the database server is full.", remedy=FREE)
    if state.startswith("23"):
        return Conflict(f"The change contradicts what is stored ({said}).")
    if state.startswith("54"):  # a path of thousands of letters that do not compress is too long for an index
        return InvalidInput(f"The database cannot take this ({said}).", remedy="Make it shorter.")
    if state.startswith("XX00"):
        return MorganError(f"The database is damaged ({said}).", remedy=RESTORE)
    if state.startswith(("28", "3D")):  # while a password is changed, or a server is being made
        return Unavailable(f"The database refuses this account ({said}).", remedy=WAIT)
    # connection, rollback, resources, operator intervention; 25006: a standby, where the primary was expected
    if state.startswith(("08", "40", "53", "57")) or state in ("25006", "55P03"):
        return Unavailable(f"The database cannot serve this now ({said}).", remedy=WAIT)
    return None


def _of_system(err: OSError) -> MorganError:
    if isinstance(err, ConnectionError | TimeoutError) or err.filename is None:
        return Unavailable("The database does not answer.", remedy=WAIT)
    if isinstance(err, PermissionError):
        return StorageFull(f"{err.filename} cannot be written.", remedy=WRITABLE)
    return StorageFull(f"{err.filename}: {err.strerror}.", remedy=FREE)
