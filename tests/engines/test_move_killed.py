"""A host that dies during its move ends moved, and once."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from benchmarks.move import fill
from morgand.storage.database import Database
from morgand.storage.move.old_file import note_of
from tests.engines.moves import (
    MARKER,
    Writer,
    arrived,
)
from tests.fakes.postgres import needed

pytestmark = [pytest.mark.engine, needed]


HOST = f"""
import asyncio, os, signal, sys
from pathlib import Path
from morgand.base.clock import SystemClock
from morgand.storage.database import Database, sqlite_url
from morgand.storage.move.mover import DatabaseMove
from morgand.storage.move.old_file import already_moved, set_aside

file, url, truth, point = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4]

def reach(here):
    if here == point:
        os.kill(os.getpid(), signal.SIGKILL)

def report(progress):
    reach(progress.stage)
    reach(progress.stage + " " + progress.table)

async def commit():
    reach("verified")
    with truth.open("a") as store:
        store.write({MARKER!r})
    reach("committed")

async def main():
    if already_moved(file, truth.read_text() or None):
        set_aside(file, SystemClock().now().date())
        return
    database = Database(sqlite_url(file))
    await database.open()
    await DatabaseMove(database, url, {MARKER!r}, SystemClock(), report).run(commit)
    await database.close()

asyncio.run(main())
"""
# after the preparation, in the middle of the copy, of catching up, before the commit, before the file is set aside
POINTS = ("copy conversations", "copy document_chunks", "catch_up messages", "verified", "committed")


async def host(*arguments: object) -> int:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", HOST, *map(str, arguments))
    return await process.wait()


@pytest.mark.parametrize("point", POINTS)
async def test_a_host_killed_at_any_point_ends_moved_and_once(
    source: Database, url: str, tmp_path: Path, point: str
) -> None:
    """What happens to SQLite before the next start arrives too; after the commit the file is not served any more."""
    file, truth = tmp_path / "morgan.db", tmp_path / "truth"
    truth.touch()
    assert await host(file, url, truth, point) == -9
    if point != "committed":
        writer = Writer(source)
        for _ in range(3):
            await writer.round()
    await source.close()
    await ends_moved(file, url, truth)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_a_large_one_is_killed_at_one_point_after_the_other(source: Database, url: str, tmp_path: Path) -> None:
    """50,000 messages, 5,000 documents: two minutes."""
    file, truth = tmp_path / "morgan.db", tmp_path / "truth"
    truth.touch()
    await fill(source, 5_000, 50_000)
    await source.close()
    for point in POINTS:
        assert await host(file, url, truth, point) == -9
    await ends_moved(file, url, truth)


async def ends_moved(file: Path, url: str, truth: Path) -> None:
    """With the next start all is there, once, and the file is kept but never used again."""
    assert await host(file, url, truth, "") == 0
    assert truth.read_text() == MARKER
    assert not file.exists()
    assert note_of(file).read_text() == MARKER
    kept = [path for path in file.parent.iterdir() if ".moved-" in path.name]
    assert len(kept) == 1
    await arrived(url, kept[0])
