"""Conversations: every turn once, in order, and gone when deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
from sqlalchemy import select

from morgand.base.errors import Conflict, InvalidInput, NotFound
from morgand.state.assistant import Citation, Speaker
from morgand.storage.database import Database
from morgand.storage.history import SqlHistory
from morgand.storage.models import FeedbackRow
from morgand.storage.purge import purge
from tests.fakes.storage import HandClock

CITED = Citation(1, "doc", "Boiler manual", "page 3", "1.5 bar", "chunk")


async def say(history: SqlHistory, conversation: str, text: str, turn: str | None = None) -> str:
    turn = turn or str(uuid4())
    await history.store_message(turn, conversation, text, tokens=3, user="ada")
    return turn


async def test_a_turn_is_read_back_as_it_was_stored(history: SqlHistory) -> None:
    """Message, answer, citations and notices come back whole."""
    conversation = str(uuid4())
    turn = await say(history, conversation, "What pressure?\n")
    stored = await history.store_answer(turn, "1.5 bar [1]", tokens=4, citations=[CITED], notices=["No reranker."])
    assert stored == await history.turn(turn)
    assert stored.message.text == "What pressure?\n"
    assert stored.answer is not None
    assert (stored.answer.citations, stored.answer.notices) == ((CITED,), ("No reranker.",))
    found = await history.conversation(conversation)
    assert (found.title, found.messages, found.user) == ("What pressure?", 2, "ada")


async def test_the_same_turn_again_stores_nothing_twice(history: SqlHistory) -> None:
    """A retried message and a retried answer return what is stored first."""
    conversation = str(uuid4())
    turn = await say(history, conversation, "Hello")
    await say(history, conversation, "Hello", turn)
    await history.store_answer(turn, "Hi", tokens=1, citations=[], notices=[])
    again = await history.store_answer(turn, "Good morning", tokens=2, citations=[], notices=[])
    assert again.answer is not None
    assert again.answer.text == "Hi"
    assert [message.text for message in await history.messages(conversation)] == ["Hello", "Hi"]
    assert (await history.conversation(conversation)).messages == 2


async def test_a_turn_without_a_conversation_opens_one_and_finds_it_again(history: SqlHistory) -> None:
    """However often and concurrently it is sent; and a turn that was sent into a conversation stays there."""
    turn = str(uuid4())
    stored = await asyncio.gather(
        *(history.store_message(turn, None, "Hello", tokens=1, user=None) for _ in range(10))
    )  # fmt: skip
    (conversation,) = {each.conversation for each in stored}
    assert [message.id for message in await history.messages(conversation)] == [turn]
    other = str(uuid4())
    moved = await say(history, other, "Good evening")
    assert (await history.store_message(moved, None, "Good evening", tokens=3, user=None)).conversation == other
    with pytest.raises(Conflict):
        await history.store_message(moved, None, "Good night", tokens=3, user=None)
    await history.delete_conversation(other)
    with pytest.raises(NotFound):
        await history.store_message(moved, None, "Good evening", tokens=3, user=None)


async def test_what_counts_word_by_word_is_read_at_once(history: SqlHistory) -> None:
    """The conversation, and what was said after its summary, at most so many messages, oldest first."""
    conversation = str(uuid4())
    turns = [await say(history, conversation, f"Message {number}") for number in range(5)]
    found, messages = await history.since_summary(conversation, limit=3)
    assert (found.messages, [message.id for message in messages]) == (5, turns[:3])
    await history.set_summary(conversation, "They counted.", turns[2])
    found, messages = await history.since_summary(conversation)
    assert (found.summary, [message.id for message in messages]) == ("They counted.", turns[3:])
    with pytest.raises(NotFound):
        await history.since_summary(str(uuid4()))


async def test_fifty_concurrent_calls_of_one_turn_store_it_once(history: SqlHistory) -> None:
    """Whoever comes first stores; all others read."""
    conversation, turn = str(uuid4()), str(uuid4())
    stored = await asyncio.gather(
        *(history.store_message(turn, conversation, "Hello", tokens=1, user=None) for _ in range(50))
    )
    assert len({each.message for each in stored}) == 1
    answers = await asyncio.gather(
        *(history.store_answer(turn, f"Answer {n}", tokens=1, citations=[], notices=[]) for n in range(50))
    )
    assert len({each.answer for each in answers}) == 1
    assert (await history.conversation(conversation)).messages == 2


async def test_a_conversation_has_one_order_under_concurrent_turns(history: SqlHistory) -> None:
    """Every position is taken once, and every reader sees the same order."""
    conversation, turns = str(uuid4()), [str(uuid4()) for _ in range(20)]
    await asyncio.gather(*(say(history, conversation, turn, turn) for turn in turns))
    messages = await history.messages(conversation)
    assert sorted(message.id for message in messages) == sorted(turns)
    pages = [await history.messages(conversation, after=message.id, limit=1) for message in messages]
    assert [page[0] for page in pages[:-1]] == messages[1:]


async def test_what_comes_while_a_conversation_is_deleted_leaves_no_text(
    history: SqlHistory, database: Database, clock: HandClock, anywhere: Callable[[str], Awaitable[bool]]
) -> None:
    """Each thing is deleted with it or refused, and nothing is in the way of a purge."""
    for _ in range(10):
        conversation = str(uuid4())
        turn = await say(history, conversation, "Hello")
        await asyncio.gather(
            history.add_feedback(conversation, turn, rating=1, comment="zanzibar", kind="rating"),
            history.set_summary(conversation, "zanzibar", turn),
            history.delete_conversation(conversation),
            say(history, conversation, "zanzibar"),
            history.store_answer(turn, "zanzibar", tokens=1, citations=[], notices=[]),
            history.add_feedback(conversation, turn, rating=1, comment="zanzibar", kind="rating"),
            return_exceptions=True,
        )
        with pytest.raises(NotFound):
            await history.conversation(conversation)
    clock.turn(31 * 86_400)
    assert await purge(database, clock, older_than_days=30) >= 20
    assert not await anywhere("zanzibar")


async def test_the_same_id_with_other_content_is_refused(history: SqlHistory) -> None:
    """Another text or another conversation under a used id changes nothing."""
    conversation, other = str(uuid4()), str(uuid4())
    turn = await say(history, conversation, "Hello")
    with pytest.raises(Conflict):
        await say(history, conversation, "Goodbye", turn)
    with pytest.raises(Conflict):
        await say(history, other, "Hello", turn)
    with pytest.raises(NotFound):
        await history.conversation(other)


@pytest.mark.parametrize("jumps", [(-86_400, -86_400), (86_400, 86_400), (400 * 86_400, -800 * 86_400)])
async def test_a_clock_that_jumps_does_not_reorder(
    history: SqlHistory, clock: HandClock, jumps: tuple[float, float]
) -> None:
    """Messages and answers come, page by page and into the prompt, in the order they were stored."""
    conversation, turns = str(uuid4()), []
    for number in range(4):
        turns.append(await say(history, conversation, f"q{number}"))
        clock.turn(jumps[0])
        await history.store_answer(turns[-1], f"a{number}", tokens=1, citations=[], notices=[])
        clock.turn(jumps[1])
    expected = [f"{kind}{number}" for number in range(4) for kind in "qa"]
    assert [message.text for message in await history.messages(conversation)] == expected
    after = await history.messages(conversation, after=turns[1], limit=3)
    assert [message.text for message in after] == expected[3:6]
    await history.set_summary(conversation, "The beginning.", turns[2])
    _, window = await history.since_summary(conversation)
    assert [message.text for message in window] == expected[5:]


async def test_messages_are_paged_by_the_last_one_seen(history: SqlHistory) -> None:
    """``after`` goes on where the page before ended; an unknown one is an error."""
    conversation = str(uuid4())
    for number in range(5):
        await say(history, conversation, str(number))
    first = await history.messages(conversation, limit=2)
    rest = await history.messages(conversation, after=first[-1].id)
    assert [message.text for message in first + rest] == list("01234")
    with pytest.raises(NotFound):
        await history.messages(conversation, after=str(uuid4()))


async def test_a_deleted_conversation_is_gone_with_all_its_text(
    history: SqlHistory, database: Database, clock: HandClock, anywhere: Callable[[str], Awaitable[bool]]
) -> None:
    """Messages, title, summary and feedback go at once; after a purge no byte of them is in the files."""
    conversation = str(uuid4())
    turn = await say(history, conversation, "My secret zanzibar")
    await history.set_summary(conversation, "About zanzibar", turn)
    await history.add_feedback(conversation, turn, rating=2, comment="zanzibar!", kind="rating")
    assert await anywhere("zanzibar")
    await history.delete_conversation(conversation)
    assert await history.turn(turn) is None
    assert await history.conversations() == []
    for gone in (history.conversation, history.messages, history.delete_conversation):
        with pytest.raises(NotFound):
            await gone(conversation)
    with pytest.raises(NotFound):  # a retry that was on its way does not bring it back
        await say(history, conversation, "My secret zanzibar", turn)
    assert await purge(database, clock, older_than_days=30) == 0
    clock.turn(31 * 86_400)
    assert await purge(database, clock, older_than_days=30) == 3
    assert not await anywhere("zanzibar")


async def test_the_latest_conversation_is_per_user(history: SqlHistory, clock: HandClock) -> None:
    """It is the one that was used last, and nobody else's."""
    first, second = str(uuid4()), str(uuid4())
    await say(history, first, "one")
    clock.turn(1)
    await history.store_message(str(uuid4()), second, "two", tokens=1, user="bob")
    clock.turn(1)
    assert [each.id for each in await history.conversations()] == [second, first]
    latest = await history.latest_conversation("ada")
    assert latest is not None
    assert latest.id == first
    assert await history.latest_conversation("eve") is None


async def test_feedback_is_checked(history: SqlHistory) -> None:
    """It is about a message of that conversation, with a rating from 1 to 5."""
    conversation, other = str(uuid4()), str(uuid4())
    turn, elsewhere = await say(history, conversation, "a"), await say(history, other, "b")
    assert await history.add_feedback(conversation, turn, rating=5, comment=None, kind="rating")
    with pytest.raises(InvalidInput):
        await history.add_feedback(conversation, turn, rating=6, comment=None, kind="rating")
    with pytest.raises(NotFound):
        await history.add_feedback(conversation, elsewhere, rating=5, comment=None, kind="rating")


async def test_the_same_feedback_again_stores_nothing_twice(history: SqlHistory, database: Database) -> None:
    """However often and at once; with other content its id is taken."""
    conversation, feedback = str(uuid4()), str(uuid4())
    turn = await say(history, conversation, "a")

    async def give(comment: str | None = "Too \x00long") -> str:
        return await history.add_feedback(
            conversation, turn, rating=2, comment=comment, kind="rating", feedback_id=feedback
        )

    assert set(await asyncio.gather(*(give() for _ in range(5)))) == {feedback}
    for other in ("Too short", None):
        with pytest.raises(Conflict, match="already stored"):
            await give(other)
    async with database.read() as session:
        assert len(list(await session.scalars(select(FeedbackRow.id)))) == 1
    with pytest.raises(InvalidInput, match="not a valid feedback id"):
        await history.add_feedback(conversation, turn, rating=2, comment=None, kind="rating", feedback_id="x")


async def test_ids_that_are_no_uuids_name_nothing(history: SqlHistory) -> None:
    """Reading says not found, making says invalid."""
    assert await history.turn("../etc") is None
    with pytest.raises(NotFound):
        await history.conversation("nope")
    with pytest.raises(InvalidInput):
        await history.store_message("nope", str(uuid4()), "x", tokens=1, user=None)


async def test_text_that_no_database_takes_is_stored_readably(history: SqlHistory) -> None:
    """NUL and lone surrogates are replaced, and the same text again is still the same turn."""
    conversation = str(uuid4())
    turn = await say(history, conversation, "a\x00b\ud800c")
    await say(history, conversation, "a\x00b\ud800c", turn)
    (message,) = await history.messages(conversation)
    assert (message.text, message.speaker) == ("a\ufffdb?c", Speaker.USER)
    answered = await history.store_answer(turn, "d\x00e", tokens=1, citations=[], notices=[])
    assert answered == await history.turn(turn)
