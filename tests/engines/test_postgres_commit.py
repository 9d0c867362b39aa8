"""What a commit on PostgreSQL may acknowledge: nothing that the standby, if one is awaited, does not have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from sqlalchemy import text

from morgand.base.errors import Unavailable
from morgand.state.assistant import DocumentState
from morgand.state.ports import DocumentResult
from morgand.storage.database import Database
from morgand.storage.engine import READERS, WRITERS
from morgand.storage.history import SqlHistory
from morgand.storage.library import SqlLibrary
from tests.fakes.postgres import Server, needed
from tests.fakes.storage import HandClock, new_document, tree

pytestmark = [pytest.mark.engine, needed]
NAMES = "synchronous_standby_names"
STEP_S = 0.05
LIMIT_S = 60.0


@pytest.fixture
def history(database: Database) -> SqlHistory:
    return SqlHistory(database, HandClock())


@asynccontextmanager
async def no_standby(running: Server) -> AsyncIterator[None]:
    """The server waits for a standby that does not exist, until this is left; then everybody who waits is let go."""
    running.set(NAMES, "nobody")
    probe = Database(running.url, commit_deadline_s=0.1)
    try:
        for _ in range(100):  # the server takes the setting in a moment later
            try:
                async with probe.change_schema() as connection:
                    await connection.execute(text("SELECT pg_logical_emit_message(true, 'probe', '')"))
            except Unavailable:
                break
        else:
            pytest.fail("commits do not wait for the standby")
        running.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        await until(lambda: not waiting(running))
        yield
    finally:
        running.set(NAMES, "")
        await probe.close()


def waiting(running: Server) -> list[str]:
    """The servers' processes that wait for a standby inside a commit."""
    return running.sql("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'").split()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(STEP_S)


async def say(history: SqlHistory, turn: str, conversation: str) -> None:
    await history.store_message(turn, conversation, "Hello", tokens=1, user=None)


@pytest.mark.parametrize("by", ["pg_cancel_backend", "pg_terminate_backend"])
async def test_a_commit_that_somebody_interrupts_is_unknown_and_its_retry_waits_again(
    running: Server, history: SqlHistory, by: str
) -> None:
    """The server calls the first a success with a warning, and shows its row: a retry must not believe in it."""
    turn, conversation = str(uuid4()), str(uuid4())
    async with no_standby(running):
        first = asyncio.create_task(say(history, turn, conversation))
        await until(lambda: len(waiting(running)) == 1)
        running.sql(f"SELECT {by}({waiting(running)[0]})")
        with pytest.raises(Unavailable):
            await first
        assert running.sql(f"SELECT count(*) FROM messages WHERE id = '{turn}'") == "1"
        again = asyncio.create_task(say(history, turn, conversation))
        await until(lambda: len(waiting(running)) == 1)
        assert not again.done()
    await again
    assert [message.id for message in await history.messages(conversation)] == [turn]


async def test_a_caller_that_hangs_up_in_a_commit_does_not_cancel_it(running: Server, history: SqlHistory) -> None:
    """Its connection is dropped; the server goes on waiting, and shows nobody what no standby has."""
    turn, conversation = str(uuid4()), str(uuid4())
    async with no_standby(running):
        hasty = asyncio.create_task(say(history, turn, conversation))
        await until(lambda: len(waiting(running)) == 1)
        hasty.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hasty
        await asyncio.sleep(0.3)
        assert len(waiting(running)) == 1
        assert running.sql(f"SELECT count(*) FROM messages WHERE id = '{turn}'") == "0"
    await until(lambda: running.sql(f"SELECT count(*) FROM messages WHERE id = '{turn}'") == "1")


async def test_a_commit_that_takes_too_long_is_given_up_and_not_cancelled(running: Server, database: Database) -> None:
    """The caller learns in time that the outcome is unknown; other connections work."""
    hasty = Database(running.url, commit_deadline_s=0.2)
    turn, conversation = str(uuid4()), str(uuid4())
    async with no_standby(running):
        with pytest.raises(Unavailable, match="not known whether"):
            await say(SqlHistory(hasty, HandClock()), turn, conversation)
        await until(lambda: len(waiting(running)) == 1)
        assert await SqlHistory(database, HandClock()).turn(turn) is None
    await say(SqlHistory(hasty, HandClock()), turn, conversation)
    await hasty.close()


async def test_hold_ends_what_waits_for_a_standby_a_query_or_a_connection(
    running: Server, database: Database, history: SqlHistory
) -> None:
    """A lost primary: nobody hangs, nothing is acknowledged, and it works again when it is admitted."""
    turns, conversation = [str(uuid4()) for _ in range(3)], str(uuid4())

    async def query() -> None:
        async with database.read() as session:
            await session.execute(text("SELECT pg_sleep(60)"))

    async with no_standby(running):
        committing = [asyncio.create_task(say(history, turn, turn)) for turn in turns]
        await until(lambda: len(waiting(running)) == 3)
        queries = [asyncio.create_task(query()) for _ in range(30)]  # more than there are connections
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        await until(lambda: running.sql(asleep) == str(READERS))
        database.hold()
        async with asyncio.timeout(LIMIT_S):
            outcomes = await asyncio.gather(*committing, *queries, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Unavailable}
        assert len(waiting(running)) == 3
        with pytest.raises(Unavailable):
            await say(history, str(uuid4()), conversation)
    database.admit()
    for turn in turns:
        await say(history, turn, turn)
        assert [message.id for message in await history.messages(turn)] == [turn]


async def test_reading_goes_on_while_writers_wait_for_a_standby(
    running: Server, database: Database, history: SqlHistory
) -> None:
    """However many they are."""
    turn = str(uuid4())
    await say(history, turn, turn)
    async with no_standby(running):
        writing = [asyncio.create_task(say(history, str(uuid4()), str(uuid4()))) for _ in range(30)]
        await until(lambda: len(waiting(running)) == WRITERS)
        async with asyncio.timeout(LIMIT_S):
            assert await history.turn(turn) is not None
            await database.health()
    await asyncio.gather(*writing)


Write = Callable[[SqlHistory, SqlLibrary], Awaitable[object]]


async def stored_turn(history: SqlHistory, library: SqlLibrary) -> list[Write]:
    turn, conversation = str(uuid4()), str(uuid4())
    await say(history, turn, conversation)
    return [
        lambda history, _: say(history, turn, conversation),
        lambda history, _: history.store_answer(turn, "Hi", tokens=1, citations=[], notices=[]),
        lambda history, _: history.set_summary(conversation, "They met.", turn),
        lambda history, _: history.add_feedback(
            conversation, turn, rating=5, comment=None, kind="rating", feedback_id=turn
        ),
    ]


async def stored_document(history: SqlHistory, library: SqlLibrary) -> list[Write]:
    document = new_document()
    ((stored, _),) = await library.add_many([document])
    chunks = tuple(tree(stored.id, ["boiler"]))
    return [
        lambda _, library: library.add_many([document]),
        lambda _, library: library.start([stored.id]),
        lambda _, library: library.start([str(uuid4())]),
        lambda _, library: library.set_state(stored.id, DocumentState.PENDING),
        lambda _, library: library.complete_many([DocumentResult(stored.id, None, "text/plain", chunks)]),
        lambda _, library: library.complete_many([DocumentResult(str(uuid4()), None, "text/plain", ())]),
        lambda _, library: library.set_embeddings({chunks[0].id: b"\0" * 8}),
        lambda _, library: library.set_embeddings({str(uuid4()): b"\0" * 8}),
    ]


@pytest.mark.parametrize("prepared", [stored_turn, stored_document])
async def test_no_write_is_acknowledged_again_without_the_standby(
    running: Server, history: SqlHistory, database: Database,
    prepared: Callable[[SqlHistory, SqlLibrary], Awaitable[list[Write]]],
) -> None:  # fmt: skip
    """Every call that returned once, and then changes nothing, still waits: the row may be on this server alone."""
    writes = await prepared(history, SqlLibrary(database, HandClock()))
    hasty = Database(running.url, commit_deadline_s=0.2)
    ours = SqlHistory(hasty, HandClock()), SqlLibrary(hasty, HandClock())
    for write in writes:
        await write(*ours)
        async with no_standby(running):
            with pytest.raises(Unavailable, match="not known whether"):
                await write(*ours)
        await until(lambda: not waiting(running))
    await hasty.close()
