"""A database that changes hands: other servers, other passwords, newer epochs, and servers that stop answering."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from morgand.base.errors import Fenced, Unavailable
from morgand.storage.database import Database, sqlite_url
from morgand.storage.history import SqlHistory
from morgand.storage.migrate import upgrade
from tests.fakes.postgres import Server, needed, server
from tests.fakes.storage import HandClock

pytestmark = [pytest.mark.engine, needed]
SOON_S = 5.0


async def say(database: Database, turn: str) -> None:
    await SqlHistory(database, HandClock()).store_message(turn, turn, "Hello", tokens=1, user=None)


async def stored(database: Database, turn: str) -> bool:
    return await SqlHistory(database, HandClock()).turn(turn) is not None


async def test_a_file_gives_way_to_a_server(database: Database, tmp_path: Path) -> None:
    """One object, as everybody who was handed it goes on using it; what is under way on the file is finished before."""
    ours, turns = Database(sqlite_url(tmp_path / "morgan.sqlite")), [str(uuid4()) for _ in range(20)]
    await ours.open()
    await upgrade(ours)
    writing = [asyncio.create_task(say(ours, turn)) for turn in turns]
    await asyncio.sleep(0)
    changing = asyncio.create_task(ours.connect(database.url))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await stored(ours, turns[0])
    outcomes = await asyncio.gather(*writing, return_exceptions=True)
    await changing
    assert (ours.is_sqlite, ours.url) == (False, database.url)
    assert not await stored(ours, turns[0])
    await say(ours, turns[0])
    assert await stored(database, turns[0])
    await ours.connect(sqlite_url(tmp_path / "morgan.sqlite"))
    for turn, outcome in zip(turns, outcomes, strict=True):
        assert await stored(ours, turn) == (outcome is None), outcome
    await ours.close()


async def test_a_changed_password_is_followed(running: Server, database: Database) -> None:
    """With the old one it is unavailable, until it is connected with the new one."""
    running.sql("CREATE ROLE guarded SUPERUSER LOGIN PASSWORD 'first'")
    access = running.folder / "data" / "pg_hba.conf"
    access.write_text("local all guarded scram-sha-256\n" + access.read_text())
    running.sql("SELECT pg_reload_conf()")
    first, second = (database.url.replace("morgan@", f"guarded:{word}@") for word in ("first", "second"))
    ours = Database(first)
    async with asyncio.timeout(60):
        while (await _role(ours)) != "guarded":
            await asyncio.sleep(0.05)
    running.sql("ALTER ROLE guarded PASSWORD 'second'")
    with pytest.raises(Unavailable, match="refuses"):
        await ours.connect(first)
    with pytest.raises(Unavailable, match="not ready"):
        await stored(ours, str(uuid4()))
    await ours.connect(second)
    await say(ours, str(uuid4()))
    await ours.close()


async def _role(database: Database) -> str | None:
    async with database.read() as session:
        return str(await session.scalar(text("SELECT current_user")))


async def test_an_older_epoch_writes_nothing_more(running: Server, database: Database) -> None:
    """Once a newer term has begun, and over restarts of the program."""
    old = Database(running.url)
    await old.begin_term(3)
    await say(old, str(uuid4()))
    await database.begin_term(4)
    await database.begin_term(4)
    turn = str(uuid4())
    with pytest.raises(Fenced):
        await say(old, turn)
    for late in (old, Database(running.url)):
        with pytest.raises(Fenced):
            await late.begin_term(3)
        with pytest.raises(Fenced):
            await say(late, turn)
        await late.close()
    assert not await stored(database, turn)
    await say(database, turn)


async def test_a_term_begins_after_the_transactions_of_older_ones(running: Server, database: Database) -> None:
    """What was let in commits before; nothing of an older epoch commits after."""
    old, begun = Database(running.url), asyncio.Event()

    async def succeed() -> None:
        await database.begin_term(7)
        begun.set()

    async with old.write() as session:
        await session.execute(text("SELECT 1"))
        following = asyncio.create_task(succeed())
        await asyncio.sleep(0.3)
        assert not begun.is_set()
    await following
    with pytest.raises(Fenced):
        async with old.write():
            pass
    await old.close()


async def test_a_reading_is_one_moment(running: Server, database: Database) -> None:
    """What is committed meanwhile is not in it; and it cannot write."""
    async with database.read() as session:
        before = await session.scalar(text("SELECT count(*) FROM messages"))
        await say(database, str(uuid4()))
        assert await session.scalar(text("SELECT count(*) FROM messages")) == before
    with pytest.raises(Exception, match="read-only"):
        async with database.read() as session:
            await session.execute(text("DELETE FROM messages"))


async def gone(running: Server) -> None:
    """Until the server has no connection of ours, and we have read that."""
    async with asyncio.timeout(60):
        while running.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'morgand'").split():
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.02)


async def test_connections_that_died_are_replaced(running: Server, database: Database) -> None:
    """A server that ended them all is used again without a failure."""
    await asyncio.gather(*(say(database, str(uuid4())) for _ in range(20)))
    running.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'morgand'")
    await gone(running)
    await asyncio.gather(*(say(database, str(uuid4())) for _ in range(20)))


async def test_hold_does_not_wait_for_a_frozen_server(running: Server, database: Database) -> None:
    """Its processes are stopped in the middle of writes and of connecting: everybody is answered soon."""
    await say(database, str(uuid4()))
    ours = running.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'morgand'").split()
    frozen = [running.process.pid, *map(int, ours)]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        writing = [asyncio.create_task(say(database, str(uuid4()))) for _ in range(30)]
        await asyncio.sleep(0.5)
        database.hold()
        async with asyncio.timeout(SOON_S):
            outcomes = await asyncio.gather(*writing, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Unavailable}
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    database.admit()
    await say(database, str(uuid4()))


async def test_a_server_that_is_killed_is_unavailable(tmp_path: Path) -> None:
    """In the middle of writes and when connecting: said soon, in our words; nothing acknowledged is lost."""
    with server() as doomed:
        database = Database(doomed.url)
        await database.open()
        await upgrade(database)
        writing = [asyncio.create_task(say(database, str(uuid4()))) for _ in range(30)]
        await asyncio.sleep(0.02)
        doomed.process.send_signal(signal.SIGQUIT)
        async with asyncio.timeout(60):
            outcomes = await asyncio.gather(*writing, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} <= {Unavailable, type(None)}
        await asyncio.to_thread(doomed.process.wait)
        with pytest.raises(Unavailable):
            await say(database, str(uuid4()))
        await database.close()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    """Nobody listens: said at once, in our words."""
    gone = Database("postgresql+asyncpg://morgan@/postgres?host=/nonexistent-folder")
    with pytest.raises(Unavailable):
        await gone.open()
    await gone.close()
