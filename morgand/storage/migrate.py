"""Bring a database to the schema of this program, while hosts of the version before may still use it.

Migrations come on two branches: ``pre`` expands the schema and is safe under the old program, ``post`` contracts it
once no old program is left. Alembic is imported only when there is something to apply.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Connection, inspect, text

from morgand.errors import Conflict, MorganError
from morgand.storage.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

Phase = Literal["pre", "post", "all"]
LOCK = 0x4D6F7267616E  # "Morgan": the advisory lock of migrations on PostgreSQL
UPGRADE_S = 3600.0  # a migration of a large database is long; it is one transaction and may be interrupted
FULLTEXT_TABLES = "chunk_fts_"  # virtual tables, and their shadows, which no model describes


async def upgrade(database: Database, phase: Phase = "all") -> None:
    """Apply what is missing, all or nothing; a second process that starts at once waits and finds it done.

    Raises Conflict if the database was made by a newer program, StorageFull, Unavailable.
    """
    wanted = await asyncio.to_thread(newest)
    async with database.change_schema() as connection:
        if not database.is_sqlite:  # SQLite has one writer, and that is this transaction
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        if await connection.run_sync(_stored) != wanted:  # Alembic costs 10 MB for as long as the daemon lives
            await connection.run_sync(_upgrade, phase)


async def upgrade_aside(database: Database) -> None:
    """``upgrade`` in a process of its own, if there is anything to apply: Alembic would stay in the daemon for life.

    Raises MorganError with the child's words.
    """
    async with database.change_schema() as connection:
        if await connection.run_sync(_stored) == await asyncio.to_thread(newest):
            return
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "morgand.storage.migrate",
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


def newest() -> set[str]:
    """The last revision of each branch, by the names of the files: ``pre_0001_first.py`` is revision ``pre_0001``."""
    names = sorted(file.stem for file in (_scripts() / "versions").glob("p*_*.py"))
    last = {name.partition("_")[0]: "_".join(name.split("_")[:2]) for name in names}
    return set(last.values())


def _stored(connection: Connection) -> set[str]:
    if not inspect(connection).has_table("alembic_version"):
        return set()
    return set(connection.scalars(text("SELECT version_num FROM alembic_version")))


def _scripts() -> Path:
    return Path(importlib.import_module("migrations").__path__[0])


def _upgrade(connection: Connection, phase: Phase) -> None:
    from alembic import command
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = configuration()
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    if unknown := sorted(set(MigrationContext.configure(connection).get_current_heads()) - known):
        raise Conflict(
            f"The database was made by a newer version of Morgan (schema {', '.join(unknown)}).",
            remedy="Install that version, or start with the data directory of this one.",
        )
    config.attributes["connection"] = connection
    for revision in script.get_revisions(script.get_heads()):
        if phase == "all" or phase in revision.branch_labels:
            command.upgrade(config, revision.revision)


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


async def _main(url: str) -> None:
    database = Database(url)
    try:
        await upgrade(database)
    finally:
        await database.close()


if __name__ == "__main__":
    try:
        asyncio.run(_main(sys.stdin.read()))
    except MorganError as error:
        sys.exit(str(error))
