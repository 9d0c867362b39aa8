"""The move from SQLite to a real PostgreSQL: everything arrives, whatever goes wrong, and once."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
from blockbuster import blockbuster_ctx

from morgand.base.errors import Conflict, NotFound, Unavailable
from morgand.state.assistant import Level
from morgand.storage.database import Database
from morgand.storage.history import SqlHistory
from morgand.storage.library import SqlLibrary
from morgand.storage.migrate import upgrade
from morgand.storage.move.mover import DatabaseMove, Moved, Progress
from morgand.storage.move.old_file import already_moved
from morgand.storage.move.rows import TABLES
from tests.engines.moves import (
    CLOCK,
    MARKER,
    Content,
    Writer,
    arrived,
    content,
    move,
    nothing,
    opened,
    sql,
)
from tests.fakes.postgres import Server, needed

pytestmark = [pytest.mark.engine, needed]


async def test_everything_arrives_while_everything_goes_on(source: Database, url: str) -> None:
    """Turns, summaries, replacements, deletions and purges meanwhile; reading goes on during the proof."""
    writer = Writer(source)
    working = [asyncio.create_task(work()) for work in (writer.write, writer.write, writer.read)]
    async with asyncio.timeout(120):
        while not writer.gone:
            await asyncio.sleep(0.01)
    with blockbuster_ctx("morgand.storage"):  # a call that blocks the event loop fails the test
        moved = await move(source, url, writer.report).run(nothing)
    await asyncio.gather(*working)
    there = await arrived(url, moved.kept)
    assert {UUID(turn) for turn in writer.said} <= set(there["messages"])
    assert writer.said
    assert writer.gone
    assert writer.read_during_proof > 0
    assert sum(moved.rows.values()) == sum(map(len, there.values()))
    with pytest.raises(Unavailable):  # the old database stays shut
        await SqlHistory(source, CLOCK).conversations()
    async with opened(url) as target:
        found = await SqlLibrary(target, CLOCK).keyword_search("boilers", Level.MEDIUM, limit=500)
        assert len(found) >= 20
        with pytest.raises(NotFound):
            await SqlHistory(target, CLOCK).store_message(
                str(uuid4()), await buried(there), "again", tokens=1, user=None
            )  # fmt: skip


async def buried(there: Content) -> str:
    """A conversation that was deleted."""
    deleted = list(TABLES[0].columns.keys()).index("deleted_at")
    return str(next(key for key, row in there["conversations"].items() if row[deleted] is not None))


async def test_writers_wait_for_the_proof_and_reach_nothing_after_the_commit(source: Database, url: str) -> None:
    """One who asked before the commit is refused after it: what it wrote to the old file would be lost."""
    history = SqlHistory(source, CLOCK)
    waiting: list[asyncio.Task[Any]] = []
    late = str(uuid4())

    def report(progress: Progress) -> None:
        if progress.stage == "verify" and not waiting:
            waiting.append(asyncio.create_task(history.store_message(late, None, "late", tokens=1, user=None)))

    async def commit() -> None:
        assert not waiting[0].done()

    moved = await move(source, url, report).run(commit)
    with pytest.raises(Unavailable):
        await waiting[0]
    assert UUID(late) not in (await arrived(url, moved.kept))["messages"]


async def test_a_commit_that_fails_leaves_sqlite_in_charge(source: Database, url: str) -> None:
    """It reads and writes on as if nothing had been; the next attempt brings what came since."""
    await refused(source, url)
    turn = str(uuid4())
    await SqlHistory(source, CLOCK).store_message(turn, None, "still here", tokens=1, user=None)
    moved = await move(source, url).run(nothing)
    assert UUID(turn) in (await arrived(url, moved.kept))["messages"]


async def test_who_is_cancelled_during_the_commit_does_not_serve_the_old_file(source: Database, url: str) -> None:
    """The commit goes on to its end, and what it decided counts."""
    ended = asyncio.Event()

    async def slow() -> None:
        moving.cancel()
        await asyncio.sleep(0.3)
        ended.set()

    moving = asyncio.create_task(move(source, url).run(slow))
    with pytest.raises(asyncio.CancelledError):
        await moving
    assert ended.is_set()
    with pytest.raises(Unavailable):
        await SqlHistory(source, CLOCK).conversations()
    file = Path(str(source.url).removeprefix("sqlite+aiosqlite:///"))
    assert already_moved(file, MARKER)


@pytest.mark.parametrize("stage", ["copy", "verify"])
async def test_who_is_cancelled_before_the_commit_serves_on(source: Database, url: str, stage: str) -> None:
    """At once, and the next attempt is not kept out by what the first one left."""
    moving: asyncio.Task[Moved] = asyncio.create_task(move(source, url, lambda p: end(p.stage)).run(nothing))

    def end(now: str) -> None:
        if now == stage:
            moving.cancel()

    with pytest.raises(asyncio.CancelledError):
        await moving
    await SqlHistory(source, CLOCK).store_message(str(uuid4()), None, "on", tokens=1, user=None)
    await arrived(url, (await move(source, url).run(nothing)).kept)


SPOIL = """
CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.tokens = 77; RETURN NEW; END $$;
CREATE TRIGGER spoil BEFORE INSERT OR UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION spoil();
UPDATE messages SET tokens = 77;
"""
PLANT = """
UPDATE messages SET content = content || ' ' WHERE position = 1;
DELETE FROM feedback;
INSERT INTO user_preferences SELECT gen_random_uuid(), now(), now(), NULL, '{}', 'x', 'y', '1', 1;
UPDATE conversations SET deleted_at = now();
UPDATE documents SET updated_at = updated_at + interval '1 microsecond';
UPDATE document_chunks SET embedding = embedding || '\\x00'::bytea;
"""


async def test_differences_are_found_and_repaired(source: Database, url: str, running: Server) -> None:
    """Whatever became of the copy after it was proved: rows changed, missing and too many, in every table."""
    await refused(source, url)
    async with opened(url) as target:
        good = await content(target)
        sql(running, url, PLANT)
        planted = await content(target)
        assert all(planted[table.name] != good[table.name] for table in TABLES)
        assert await arrived(url, (await move(source, url).run(nothing)).kept) == good


async def refused(source: Database, url: str) -> None:
    """A move that is complete but for its commit."""

    async def refuse() -> None:
        raise Conflict("The plan changed.")

    with pytest.raises(Conflict, match="The plan changed"):
        await move(source, url).run(refuse)


async def test_a_difference_that_stays_ends_the_move(source: Database, url: str, running: Server) -> None:
    """It is named, SQLite serves on, and nothing was committed."""
    await refused(source, url)
    sql(running, url, SPOIL)
    committed = []

    async def commit() -> None:
        committed.append(True)

    with pytest.raises(Conflict, match="Table messages is not the same after the move: 17 of 17 rows"):
        await move(source, url).run(commit)
    assert not committed
    await SqlHistory(source, CLOCK).store_message(str(uuid4()), None, "on", tokens=1, user=None)


async def test_a_database_that_holds_something_else_is_refused(source: Database, url: str, running: Server) -> None:
    """Data that no move brought, another cluster's move, and a move that was done: nothing of them is touched."""
    async with opened(url) as foreign:
        await upgrade(foreign)
        await SqlHistory(foreign, CLOCK).store_message(str(uuid4()), None, "foreign", tokens=1, user=None)
        before = await content(foreign)
        with pytest.raises(Conflict, match="holds data already"):
            await move(source, url).run(nothing)
        assert await content(foreign) == before
        sql(running, url, "TRUNCATE conversations CASCADE")
    await move(source, url).run(nothing)
    async with opened(url) as target:
        before = await content(target)
        source.admit()
        await source.open()
        for marker, why in (("another", "target of another move"), (MARKER, "This move is done")):
            with pytest.raises(Conflict, match=why):
                await move(source, url, marker=marker).run(nothing)
        assert await content(target) == before


@pytest.mark.parametrize(("by", "why"), [(signal.SIGKILL, "ended"), (signal.SIGSTOP, "took over 2 s")])
async def test_a_copier_that_fails_during_the_proof_keeps_nobody_waiting(
    source: Database, url: str, by: signal.Signals, why: str
) -> None:
    """Killed or frozen: the move is given up in a bounded time, SQLite serves on, and the next attempt succeeds."""

    async with source.write():
        moving = asyncio.create_task(DatabaseMove(source, url, MARKER, CLOCK, lambda _: None, hold_s=2.0).run(nothing))
        while not source._turn._waiters:  # the copier is ready, and the move waits for this writer
            await asyncio.sleep(0.01)
        [copier] = [one for one in psutil.Process().children() if "morgand.storage.move.child" in one.cmdline()]
        copier.send_signal(by)
    with pytest.raises(Unavailable, match=why):
        await moving
    await SqlHistory(source, CLOCK).store_message(str(uuid4()), None, "on", tokens=1, user=None)
    await arrived(url, (await move(source, url).run(nothing)).kept)


async def test_a_server_that_is_gone_costs_nothing(source: Database) -> None:
    """Said in our words; SQLite never stopped."""
    with pytest.raises(Unavailable):
        await move(source, "postgresql+asyncpg://morgan@/postgres?host=/nonexistent-folder").run(nothing)
    assert len(await SqlHistory(source, CLOCK).conversations()) == 8
