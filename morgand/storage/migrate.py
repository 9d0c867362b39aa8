"""Bring a database to the schema of this program, while hosts of the version before may still use it.

Migrations come on two branches. ``pre`` ones only add, and are done in an instant: the version before goes on working,
so whoever needs them applies them. ``post`` ones take away, fill up or make an index: they are applied, while the
database serves, once no program is left that does not know them. Alembic is imported only when there is something to
apply. Rules for who writes one: ``docs/adr/0012-rolling-upgrades.md``.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, make_url, text
from sqlalchemy.exc import DBAPIError

from morgand.base.errors import Conflict, MorganError
from morgand.state.schema_version import Schema
from morgand.storage.database import Database
from morgand.storage.engine import migration_engine
from morgand.storage.faults import translated

if TYPE_CHECKING:
    from alembic.config import Config

LOCK = 0x4D6F7267616E  # "Morgan": the advisory lock of migrations on PostgreSQL
WAIT_S = 60.0  # for another process that holds it
# what others wait behind a migration that waits for them, and behind a statement of it; then it gives up, and is tried
# again. What blocks nobody may set other deadlines, and RESET ALL.
DEADLINES = {"lock_timeout": "500ms", "statement_timeout": "1s"}
UPGRADE_S = 3600.0  # for all of it
FULLTEXT_TABLES = "chunk_fts_"  # virtual tables, and their shadows, which no model describes
_REVISION = re.compile(r"(pre|post)_(\d{4})(?:_\w+)?")


@cache
def known() -> Schema:
    """The schema of this program, by the names of the files: ``pre_0001_first.py`` is revision ``pre_0001``.

    As it was when it was first asked for: an update may put other files there while this program runs.
    """
    return _newest(file.stem for file in (_scripts() / "versions").glob("p*_*.py"))


def wanted(stored: Schema, known: Schema, post: int | None) -> Schema:
    """What to bring a database to. ``post``: the last such migration that may be applied; None for all.

    What a newer program added is left alone. Raises Conflict when one took something away: this program cannot use it.
    """
    if stored.post > known.post:
        raise Conflict(
            f"The database was made by a newer version of Morgan (schema {_name('post', stored.post)}).",
            remedy="Install that version, or start with the data directory of this one.",
        )
    if stored.pre > known.pre:
        return stored
    return Schema(known.pre, max(stored.post, known.post if post is None else min(post, known.post)))


async def upgrade(database: Database, *, post: int | None = None) -> None:
    """Apply what is missing; a second process that starts at once waits and finds it done.

    All or nothing on SQLite; on PostgreSQL each migration is, and none makes others wait longer than ``DEADLINES``
    allow. ``post`` as in ``wanted``. Raises Conflict if the database cannot be used by this program any
    more, StorageFull, Unavailable.
    """
    await asyncio.to_thread(known)
    if database.is_sqlite:  # it has one writer, and that is this transaction
        async with database.change_schema() as connection:
            stored = await connection.run_sync(_stored)
            for revision in _steps(stored, wanted(stored, known(), post)):
                await connection.run_sync(_apply, revision)
        return
    engine = migration_engine(make_url(database.url), DEADLINES)
    try:
        with translated():
            async with asyncio.timeout(UPGRADE_S), engine.connect() as connection:
                for name in DEADLINES:
                    await connection.execute(text(f"SET {name} = '{WAIT_S:g}s'"))
                await connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
                await connection.execute(text("RESET ALL"))
                stored = await connection.run_sync(_stored)
                await connection.commit()  # each migration has a transaction of its own
                for revision in _steps(stored, wanted(stored, known(), post)):
                    await connection.run_sync(_apply, revision)
                    await connection.commit()
    finally:
        await engine.dispose()


async def upgrade_aside(database: Database, *, post: int | None = None) -> bool:
    """``upgrade`` in a process of its own, if there is anything to apply: Alembic would stay in the daemon for life.

    Returns whether there was. Raises MorganError with the child's words; Conflict as ``upgrade`` does.
    """
    own = await asyncio.to_thread(known)
    async with database.change_schema() as connection:
        stored = await connection.run_sync(_stored)
    if wanted(stored, own, post) == stored:
        return False
    words = () if post is None else (str(post),)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "morgand.storage.migrate", *words,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(UPGRADE_S):
            said, _ = await child.communicate(database.url.encode())  # by stdin: a URL may hold a password
    finally:
        if child.returncode is None:
            child.kill()
    if child.returncode:
        lines = said.decode(errors="replace").strip().splitlines()
        raise MorganError(lines[-1] if lines else "The database's schema could not be brought up to date.")
    return True


def _newest(names: Iterable[str]) -> Schema:
    numbers = {"pre": 0, "post": 0}
    for name in names:
        found = _REVISION.fullmatch(name)
        if found is None:
            raise Conflict(
                f"The database's schema has the version '{name}', which is none of Morgan's.",
                remedy="Start with another data directory, or restore the database from a backup.",
            )
        numbers[found[1]] = max(numbers[found[1]], int(found[2]))
    return Schema(**numbers)


def _name(phase: str, number: int) -> str:
    return f"{phase}_{number:04}"


def _stored(connection: Connection) -> Schema:
    if not inspect(connection).has_table("alembic_version"):
        return Schema()
    return _newest(connection.scalars(text("SELECT version_num FROM alembic_version")))


def _scripts() -> Path:
    return Path(importlib.import_module("morgand.storage.migrations").__path__[0])


def _steps(stored: Schema, target: Schema) -> list[str]:
    """The revisions to bring a database to, in this order."""
    pairs = (("pre", stored.pre, target.pre), ("post", stored.post, target.post))
    return [_name(phase, then) for phase, now, then in pairs if then > now]


def _apply(connection: Connection, revision: str) -> None:
    from alembic import command  # it costs 10 MB for as long as the process lives

    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def configuration() -> Config:
    """Alembic's configuration, without a file: the scripts are a package, in a checkout and in a wheel."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def described(name: str | None, kind: str) -> bool:
    """Whether an object of the database is one that the models describe."""
    return not (kind == "table" and name is not None and name.startswith(FULLTEXT_TABLES))


async def _main(url: str, post: int | None) -> None:
    database = Database(url)
    try:
        await upgrade(database, post=post)
    finally:
        await database.close()


if __name__ == "__main__":
    try:
        asyncio.run(_main(sys.stdin.read(), int(sys.argv[1]) if sys.argv[1:] else None))
    except MorganError as error:
        sys.exit(str(error))
    except DBAPIError as error:
        sys.exit(f"The database's schema could not be brought up to date: {error.orig}.")
