"""The schema: the models are the sum of the migrations, applied once, never backwards."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from morgand.errors import Conflict, MorganError
from morgand.storage.database import Database, sqlite_url
from morgand.storage.migrate import configuration, newest, upgrade, upgrade_aside
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
    assert newest() == set(ScriptDirectory.from_config(configuration()).get_heads())


@pytest.mark.parametrize("phase", ["pre", "post", "all"])
async def test_upgrading_again_changes_nothing(database: Database, phase: str) -> None:
    """Every start of the daemon upgrades."""
    await upgrade(database, phase)  # type: ignore[arg-type] # parametrize knows no literals
    assert await differences(database) == []


async def test_a_newer_database_is_refused(database: Database) -> None:
    """An old program does not touch what it does not know."""
    async with database.write() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = 'pre_9999'"))
    with pytest.raises(Conflict, match="newer version of Morgan"):
        await upgrade(database)


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
    """The schema is there afterwards, a second call finds nothing to do, and a refusal comes with its words."""
    database = Database(sqlite_url(tmp_path / "morgan.sqlite"))
    await database.open()
    for _ in range(2):
        await upgrade_aside(database)
    assert await differences(database) == []
    async with database.write() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = 'pre_9999'"))
    with pytest.raises(MorganError, match="newer version of Morgan"):
        await upgrade_aside(database)
    await database.close()
