"""Two versions of the program on one PostgreSQL server, while it is migrated and everybody writes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from morgand import __version__
from morgand.base.errors import Conflict
from morgand.state.schema_version import Schema
from morgand.storage.database import Database
from morgand.storage.migrate import known, upgrade, upgrade_aside
from tests.fakes.postgres import Server, binaries, server
from tests.fakes.releases import CHECKOUT, NEXT, environment, next_release

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(binaries() is None, reason="no PostgreSQL server is installed (initdb is not found)"),
]
LOAD = Path(__file__).with_name("upgrade_load.py")
WAITS = ("deadlock_timeout=2s", "log_lock_waits=on")  # the server tells of everybody who waited longer for a lock
ATTEMPTS = 20  # a migration that would keep writers waiting gives up, and is tried again
STORED = """
INSERT INTO conversations SELECT gen_random_uuid(), now(), now(), NULL, '{}', 'ada', NULL, 'Old', NULL, NULL, 100
  FROM generate_series(1, 100);
INSERT INTO messages
  SELECT gen_random_uuid(), now(), now(), NULL, '{}', conversations.id, position, 'user', 'x', 1, '[]', '[]'
  FROM conversations, generate_series(0, 99) AS position;
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server(*WAITS) as started:
        yield started


@contextmanager
def load(release: Path, url: str) -> Iterator[dict[str, Any]]:
    """Whatever version is there writes meanwhile; the result is filled in at the end."""
    result: dict[str, Any] = {}
    argv = [sys.executable, str(LOAD), url]
    with subprocess.Popen(
        argv, cwd=release, env=environment(release), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        result |= json.loads(process.stdout.readline())
        yield result
        said, _ = process.communicate(timeout=30)
        result |= json.loads(said)


def migrate(release: Path, url: str, *post: str, attempts: int = ATTEMPTS) -> None:
    """As the daemon does it, until it succeeds."""
    argv = [sys.executable, "-m", "morgand.storage.migrate", *post]
    for _ in range(attempts):
        done = subprocess.run(
            argv, cwd=release, env=environment(release), input=url, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return
        assert "lock timeout" in done.stderr, done.stderr
    raise AssertionError(f"not migrated in {attempts} attempts")


def unharmed(result: dict[str, Any], running: Server) -> None:
    assert result["done"] > 20, result
    assert result["failed"] == [], result
    waited = [line for line in (running.folder / "log").read_text().splitlines() if " still waiting for " in line]
    assert waited == []


async def test_nobody_notices_that_the_schema_changes(running: Server, tmp_path: Path) -> None:
    """The old program goes on while things are added, the new one while others are taken away; then the old one, and
    only then, is refused."""
    newer, now = next_release(tmp_path), known()
    database = Database(running.url)
    await database.open()
    await upgrade(database)
    running.sql(STORED)

    with load(CHECKOUT, running.url) as old:
        assert old["version"] == __version__
        migrate(newer, running.url, "0")
    unharmed(old, running)
    await upgrade_aside(database)
    assert revisions(running) == Schema(now.pre + 1, now.post)

    with load(newer, running.url) as new:
        assert new["version"] == NEXT
        migrate(newer, running.url)
    unharmed(new, running)
    assert revisions(running) == Schema(now.pre + 1, now.post + 1)
    assert running.sql("SELECT count(*) FROM messages WHERE mood IS DISTINCT FROM 'calm'") == "0"
    assert running.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_messages_mood'::regclass") == "t"

    with pytest.raises(Conflict, match="newer version of Morgan"):
        await upgrade_aside(database)
    await database.close()


async def test_a_migration_in_the_way_gives_up_soon(running: Server, tmp_path: Path) -> None:
    """Somebody else's long transaction is waited for only a moment, since others would wait behind the migration."""
    running.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    newer, programs = next_release(tmp_path), binaries()
    assert programs is not None
    database = Database(running.url)
    await database.open()
    await upgrade(database)
    holder = subprocess.Popen(
        [programs / "psql", "-h", running.folder, "-U", "morgan", "-d", "postgres", "-c",
         "BEGIN; SELECT count(*) FROM messages; SELECT pg_sleep(60)"], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with load(CHECKOUT, running.url) as old, pytest.raises(AssertionError, match="not migrated"):
            migrate(newer, running.url, "0", attempts=2)
    finally:
        holder.terminate()
        holder.wait()
    unharmed(old, running)
    assert revisions(running) == known()
    await database.close()


def revisions(running: Server) -> Schema:
    found = running.sql("SELECT version_num FROM alembic_version").split()
    numbers = {name.partition("_")[0]: int(name.partition("_")[2]) for name in found}
    return Schema(numbers.get("pre", 0), numbers.get("post", 0))
