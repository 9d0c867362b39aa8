"""Sending what waits: once, in order, through crashes, and past messages that are refused for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from morgand.assistant.assistant import Assistant
from morgand.assistant.events import Delta, TurnEvent
from morgand.assistant.replay import ANSWER_TRIES, FAULTS, Replay, Tries, Verdict, judge, patience_s
from morgand.base.clock import SystemClock
from morgand.base.errors import (
    Conflict,
    Fenced,
    InvalidInput,
    MorganError,
    NotFound,
    Overloaded,
    StorageFull,
    Unavailable,
)
from morgand.config import Config
from morgand.state.hosts import HostState
from morgand.storage.database import Database, sqlite_url
from morgand.storage.history import SqlHistory
from morgand.storage.migrate import upgrade
from morgand.storage.outbox import KeptMessage, Outbox
from tests.fakes.assistant import FixedRetriever, ScriptedChat, WordReranker, nothing_waits
from tests.fakes.moving import Moving


class Quick(SystemClock):
    """Pauses are short."""

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(min(delay_s, 0.01))


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[SqlHistory]:
    database = Database(sqlite_url(tmp_path / "morgan.sqlite"))
    await database.open()
    await upgrade(database)
    yield SqlHistory(database, SystemClock())
    await database.close()


def assistant(moving: Moving, chat: ScriptedChat | None = None) -> Assistant:
    return Assistant(
        chat=chat or ScriptedChat("Fine."), fast=None, retriever=FixedRetriever(), reranker=WordReranker(),
        history=moving.port, delivery=nothing_waits(), settings=Config,
    )  # fmt: skip


async def opened(folder: Path) -> Outbox:
    box = Outbox(folder, "atlas")
    await box.open()
    return box


def kept(text: str, conversation: str | None = None, *, answer: bool = True) -> KeptMessage:
    return KeptMessage(str(uuid4()), text, conversation, answer, True, None, datetime.now(UTC))


@asynccontextmanager
async def sending(replay: Replay) -> AsyncIterator[None]:
    task = asyncio.create_task(replay.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def texts(history: SqlHistory, conversation: str) -> list[str]:
    return [one.text for one in await history.messages(conversation)]


async def test_what_waits_is_sent_in_order_and_answered(history: SqlHistory, tmp_path: Path) -> None:
    """Each message with its answer before the next; notes get none; nothing is left in the outbox or on the disk."""
    moving, box, place = Moving(history), await opened(tmp_path), str(uuid4())
    moving.leave()
    other = kept("elsewhere")
    for one in (kept("one", place), kept("two", place, answer=False), other, kept("three", place)):
        await box.put(one)
    async with sending(Replay(box, assistant(moving), Quick())):
        await until(lambda: len(moving.calls) > 4)
        assert len(box.waiting()) == 4
        moving.come_back()
        await until(lambda: not box.all())
    assert await texts(history, place) == ["one", "Fine.", "two", "three", "Fine."]
    assert await texts(history, other.place) == ["elsewhere", "Fine."]
    assert list((tmp_path / "outbox").iterdir()) == []


async def test_a_message_that_comes_while_sending_is_sent_too(history: SqlHistory, tmp_path: Path) -> None:
    moving, box, place = Moving(history), await opened(tmp_path), str(uuid4())
    async with sending(Replay(box, assistant(moving), Quick())):
        for number in range(20):
            await box.put(kept(str(number), place, answer=False))
            await asyncio.sleep(0.005 * (number % 3))
        await until(lambda: not box.all())
    assert await texts(history, place) == [str(number) for number in range(20)]


async def test_killed_after_the_store_and_before_the_removal_nothing_is_there_twice(
    history: SqlHistory, tmp_path: Path
) -> None:
    """The file is still there after the crash; the message has its id, so the second time changes nothing."""
    message = kept("once")
    await (await opened(tmp_path)).put(message)
    async for _ in assistant(Moving(history)).replay(message):
        break  # stored; the process ends here
    box = await opened(tmp_path)
    assert len(box.waiting()) == 1
    async with sending(Replay(box, assistant(Moving(history)), Quick())):
        await until(lambda: not box.all())
    assert await texts(history, message.place) == ["once", "Fine."]


async def test_two_hosts_with_messages_of_one_conversation(history: SqlHistory, tmp_path: Path) -> None:
    """Both get in, each host's in its order, none twice."""
    place, boxes = str(uuid4()), []
    for host in ("atlas", "bolt"):
        (tmp_path / host).mkdir()
        box = await opened(tmp_path / host)
        for number in range(8):
            await box.put(kept(f"{host} {number}", place, answer=False))
        boxes.append(box)
    one, other = (Replay(box, assistant(Moving(history)), Quick()) for box in boxes)
    async with sending(one), sending(other):
        await until(lambda: not any(box.all() for box in boxes))
    found = await texts(history, place)
    assert len(found) == 16
    for host in ("atlas", "bolt"):
        assert [text for text in found if text.startswith(host)] == [f"{host} {number}" for number in range(8)]


async def test_what_is_refused_for_good_is_set_aside_with_the_reason(history: SqlHistory, tmp_path: Path) -> None:
    """A deleted conversation, an id that is taken: the others are sent."""
    box = await opened(tmp_path)
    gone, taken, place = str(uuid4()), kept("mine"), str(uuid4())
    await history.store_message(str(uuid4()), gone, "x", tokens=1, user=None)
    await history.delete_conversation(gone)
    await history.store_message(taken.turn, None, "another's", tokens=1, user=None)
    for one in (kept("too late", gone), taken, kept("well", place)):
        await box.put(one)
    async with sending(Replay(box, assistant(Moving(history)), Quick())):
        await until(lambda: not box.waiting())
    assert [(await box.read(one)).text for one in box.refused()] == ["too late", "mine"]
    assert [str(one.reason)[:8] for one in box.refused()] == ["There is", f"Turn {taken.turn[:3]}"]
    assert await texts(history, place) == ["well", "Fine."]


async def test_a_damaged_message_is_set_aside_and_the_next_one_sent(history: SqlHistory, tmp_path: Path) -> None:
    box, place = await opened(tmp_path), str(uuid4())
    damaged = await box.put(kept("damaged", place))
    await box.put(kept("whole", place, answer=False))
    (tmp_path / "outbox" / damaged.name).write_bytes(b"rust")
    async with sending(Replay(box, assistant(Moving(history)), Quick())):
        await until(lambda: not box.all())
    assert await texts(history, place) == ["whole"]
    assert len(box.damaged) == 1


async def test_a_message_that_cannot_be_answered_still_leaves_the_outbox(history: SqlHistory, tmp_path: Path) -> None:
    """It is stored; whoever sends its id again is told what is wrong."""
    box, message = await opened(tmp_path), kept("Hello!")
    await box.put(message)
    async with sending(Replay(box, assistant(Moving(history), ScriptedChat(InvalidInput("Too long."))), Quick())):
        await until(lambda: not box.all())
    assert await texts(history, message.place) == ["Hello!"]


async def test_an_answer_that_failed_in_passing_is_made_by_a_later_try(history: SqlHistory, tmp_path: Path) -> None:
    """The line for the model is full at first: the message is stored once, and answered once."""
    box, message = await opened(tmp_path), kept("Hello!")
    await box.put(message)
    chat = ScriptedChat(Overloaded(retry_after_s=1), "Fine.")
    async with sending(Replay(box, assistant(Moving(history), chat), Quick())):
        await until(lambda: not box.all())
    assert await texts(history, message.place) == ["Hello!", "Fine."]
    assert len(chat.asked) == 2


async def test_a_fault_of_ours_costs_one_message_and_not_the_daemon(tmp_path: Path) -> None:
    """It is set aside after a few tries; the loop goes on."""

    class Broken:
        tries = 0

        async def replay(self, message: KeptMessage) -> AsyncGenerator[TurnEvent, None]:
            self.tries += 1
            yield Delta(str(1 // 0))

    box, broken = await opened(tmp_path), Broken()
    await box.put(kept("poison"))
    async with sending(Replay(box, broken, Quick())):
        await until(lambda: bool(box.refused()))
    assert broken.tries == FAULTS


async def test_a_try_that_hangs_ends_and_is_repeated(history: SqlHistory, tmp_path: Path) -> None:
    moving, box = Moving(history), await opened(tmp_path)
    moving.hang = asyncio.Event()
    message = kept("patient")
    await box.put(message)
    async with sending(Replay(box, assistant(moving), Quick(), store_s=0.05)):
        await until(lambda: moving.calls.count("store_message") >= 2)
        moving.hang = None
        await until(lambda: not box.all())
    assert await texts(history, message.place) == ["patient", "Fine."]


@pytest.mark.parametrize(
    ("err", "tries", "delivered", "expected"),
    [
        (Unavailable(), Tries(), False, Verdict.AGAIN),
        (StorageFull(), Tries(), False, Verdict.AGAIN),  # there may be space again
        (Fenced(), Tries(), False, Verdict.AGAIN),
        (MorganError("The database file is damaged."), Tries(), False, Verdict.AGAIN),
        (NotFound(), Tries(), False, Verdict.REFUSED),
        (Conflict(), Tries(), False, Verdict.REFUSED),
        (InvalidInput(), Tries(), False, Verdict.REFUSED),
        (MorganError(), Tries(faults=FAULTS), False, Verdict.REFUSED),
        (Unavailable(), Tries(answers=1), True, Verdict.AGAIN),
        (Unavailable(), Tries(answers=ANSWER_TRIES), True, Verdict.DONE),
        (NotFound(), Tries(answers=1), True, Verdict.DONE),  # deleted while it was answered
    ],
)
def test_verdicts(err: MorganError, tries: Tries, delivered: bool, expected: Verdict) -> None:
    """Nothing that the database may still take is given up, and nothing is tried for ever in vain."""
    assert judge(err, tries, delivered=delivered) is expected


@pytest.mark.parametrize(
    ("database", "lost_s", "expected_s"),
    [
        (HostState.ALIVE, 0.0, 10.0),
        (HostState.SUSPECT, 0.0, 10.0),
        (None, 0.0, 10.0),
        (HostState.ALIVE, 3.0, 10.0),  # etcd chooses another leader: a normal failover
        (HostState.ALIVE, 6.0, 1.0),  # no quorum: nobody will move it, but it may answer
        (HostState.LEFT, 0.0, 1.0),
        (HostState.FENCED, 0.0, 0.0),
    ],
)
def test_patience(database: HostState | None, lost_s: float, expected_s: float) -> None:
    """Long enough for a failover, short where none will come."""
    assert patience_s(database, lost_s) == expected_s
