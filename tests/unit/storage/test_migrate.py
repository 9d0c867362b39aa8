"""The schema: the models are the sum of the migrations, applied once, never backwards."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from morgand.base.errors import Conflict, MorganError
from morgand.state.schema_version import Schema
from morgand.storage.database import Database, sqlite_url
from morgand.storage.migrate import configuration, known, upgrade, upgrade_aside, wanted
from tests.fakes.schema import differences, heads_without_a_phase

RACER = """
import asyncio, sys
from morgand.storage.database import Database
from morgand.storage.migrate import upgrade
async def main():
    database = Database(sys.argv[1]); await database.open(); await upgrade(database); await database.close()
asyncio.run(main())
"""

IMPORTS = (
    RACER
    + """
import morgand.storage.library, morgand.storage.history
print([name for name in ("alembic", "mako", "numpy") if name in sys.modules])
"""
)


@pytest.fixture
def database(file: Database) -> Database:
    """This is about the file and its folder."""
    return file


async def test_the_models_are_the_sum_of_the_migrations(database: Database) -> None:
    """A column added to one and not to the other is seen here."""
    assert await differences(database) == []


async def test_a_forgotten_migration_is_seen(database: Database) -> None:
    """The comparison can fail: a column and an index less are two differences."""
    async with database.change_schema() as connection:
        await connection.execute(text("DROP INDEX ix_documents_state"))
        await connection.execute(text("ALTER TABLE documents DROP COLUMN bucket"))
    assert len(await differences(database)) == 2


def test_every_revision_has_a_phase() -> None:
    """Each is on the branch ``pre`` or on the branch ``post``."""
    assert heads_without_a_phase() == []


def test_file_names_tell_the_newest_revisions() -> None:
    """A file that is not named for its revision would never be applied."""
    heads = [f"{phase}_{number:04}" for phase, number in (("pre", known().pre), ("post", known().post)) if number]
    assert heads == sorted(ScriptDirectory.from_config(configuration()).get_heads(), reverse=True)


@pytest.mark.parametrize("post", [0, None])
async def test_upgrading_again_changes_nothing(database: Database, post: int | None) -> None:
    """Every start of the daemon upgrades."""
    await upgrade(database, post=post)
    assert await differences(database) == []


@pytest.mark.parametrize(
    ("stored", "known", "post", "expected"),
    [
        (Schema(), Schema(3, 1), 0, Schema(3, 0)),  # a new database of a cluster: nothing is taken away yet
        (Schema(), Schema(3, 1), None, Schema(3, 1)),  # a host alone
        (Schema(2, 0), Schema(3, 1), 0, Schema(3, 0)),  # whoever needs something adds it
        (Schema(3, 0), Schema(3, 2), 1, Schema(3, 1)),  # as far as everybody knows
        (Schema(3, 1), Schema(3, 1), 0, Schema(3, 1)),  # never back
        (Schema(3, 0), Schema(3, 1), 7, Schema(3, 1)),
        (Schema(4, 1), Schema(3, 1), None, Schema(4, 1)),  # a newer one added something: it is left alone
        (Schema(4, 0), Schema(3, 1), None, Schema(4, 0)),
    ],
)
def test_what_a_database_is_brought_to(stored: Schema, known: Schema, post: int | None, expected: Schema) -> None:
    """What adds at once, what takes away when it may."""
    assert wanted(stored, known, post) == expected


def test_a_database_that_lost_what_this_program_needs_is_refused() -> None:
    """Whatever else is known of it."""
    for pre in (2, 3, 4):
        with pytest.raises(Conflict, match=r"newer version of Morgan \(schema post_0002\)"):
            wanted(Schema(pre, 2), Schema(3, 1), None)


async def test_what_a_newer_program_added_is_left_alone(database: Database) -> None:
    """An older host goes on with it, and applies nothing."""
    async with database.write() as session:
        await session.execute(
            text("UPDATE alembic_version SET version_num = 'pre_9999' WHERE version_num LIKE 'pre_%'")
        )
    await upgrade(database)
    await upgrade_aside(database)
    async with database.read() as session:
        assert "pre_9999" in list(await session.scalars(text("SELECT version_num FROM alembic_version")))


@pytest.mark.parametrize(
    ("version", "words"), [("post_9999", "newer version of Morgan"), ("0815abcdef", "none of Morgan's")]
)
async def test_a_newer_database_is_refused(database: Database, version: str, words: str) -> None:
    """An old program does not touch what it cannot use."""
    async with database.write() as session:
        await session.execute(text("INSERT INTO alembic_version VALUES (:version)"), {"version": version})
    with pytest.raises(Conflict, match=words):
        await upgrade(database)
    with pytest.raises(Conflict, match=words):
        await upgrade_aside(database)


async def test_a_failed_upgrade_leaves_nothing(tmp_path: Path) -> None:
    """All or nothing: a table in the way stops it, and the others are not made."""
    database = Database(sqlite_url(tmp_path / "morgan.sqlite"))
    await database.open()
    async with database.change_schema() as connection:
        await connection.execute(text("CREATE TABLE user_preferences (x)"))
    with pytest.raises(Exception, match="already exists"):
        await upgrade(database)
    async with database.read() as session:
        tables = set(await session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'table'")))
    await database.close()
    assert tables == {"user_preferences"}


async def test_processes_that_start_at_once_upgrade_once(tmp_path: Path) -> None:
    """The second one waits and finds it done."""
    url = sqlite_url(tmp_path / "with space % and #.sqlite")
    racers = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", RACER, url, stderr=subprocess.PIPE) for _ in range(3)
    ]
    for racer in racers:
        _, errors = await racer.communicate()
        assert racer.returncode == 0, errors.decode()
    database = Database(url)
    assert await differences(database) == []
    await database.close()


async def test_a_daemon_with_nothing_to_apply_does_not_keep_alembic(database: Database, tmp_path: Path) -> None:
    """Opening, checking and using the database imports no migration tool and no numeric library."""
    url = sqlite_url(tmp_path / "db" / "morgan.sqlite")
    ran = subprocess.run([sys.executable, "-c", IMPORTS, url], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


async def test_the_daemon_upgrades_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The schema is there afterwards, a second call finds nothing to do, and a failure comes with its words."""
    database = Database(sqlite_url(tmp_path / "morgan.sqlite"))
    await database.open()
    for _ in range(2):
        await upgrade_aside(database)
    assert await differences(database) == []
    async with database.write() as session:
        await session.execute(
            text("UPDATE alembic_version SET version_num = 'pre_0001' WHERE version_num LIKE 'pre_%'")
        )
    with pytest.raises(MorganError, match="table term already exists"):
        await upgrade_aside(database)
    await database.close()
