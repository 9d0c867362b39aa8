"""Turns: stored before they are acknowledged, answered once, honest about what is missing."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from uuid import uuid4

import pytest

from morgand.assistant import degrade
from morgand.assistant.assistant import Assistant
from morgand.assistant.events import Delta, QueryDone, Replace, TurnAccepted, TurnDone
from morgand.assistant.text import says_something
from morgand.base.errors import Conflict, InvalidInput, Unavailable
from morgand.config import Config
from morgand.state.assistant import Turn
from morgand.state.ports import ChatMessage
from morgand.storage.history import SqlHistory
from tests.fakes.assistant import SMALL, FixedRetriever, ScriptedChat, WordReranker, nothing_waits, passage

PRESSURE = passage("The pressure should read 1.2 to 1.5 bar when cold. Below 0.8 bar the boiler shows fault F22.")
QUESTION = "What pressure should the boiler show when cold?"


def assistant(
    history: SqlHistory,
    chat: ScriptedChat,
    *,
    fast: ScriptedChat | None = None,
    retriever: FixedRetriever | None = None,
    config: Config | None = None,
) -> Assistant:
    return Assistant(
        chat=chat,
        fast=fast,
        retriever=retriever or FixedRetriever(),
        reranker=WordReranker(),
        history=history,
        delivery=nothing_waits(),
        settings=lambda: config or Config(),
    )


async def done(morgan: Assistant, turn: str, text: str, conversation: str | None = None) -> Turn:
    events = [event async for event in morgan.turn(turn, text, conversation=conversation)]
    assert isinstance(events[-1], TurnDone)
    return events[-1].turn


async def shown(morgan: Assistant, text: str) -> tuple[str, QueryDone]:
    """What a client that obeys Delta and Replace ends up showing, and the last event."""
    said, last = "", None
    async for event in morgan.query(text):
        match event:
            case Delta(piece):
                said += piece
            case Replace(whole):
                said = whole
            case QueryDone():
                last = event
    assert last is not None
    return said, last


async def test_message_is_stored_before_it_is_accepted_and_answer_before_done(history: SqlHistory) -> None:
    """At every acknowledgement the storage already holds what was acknowledged."""
    morgan, turn = assistant(history, ScriptedChat("Hello there.")), str(uuid4())
    kinds = []
    async for event in morgan.turn(turn, "Hello!"):
        kinds.append(type(event))
        stored = await history.turn(turn)
        assert stored is not None
        if isinstance(event, TurnDone):
            assert stored.answer is not None
            assert stored.answer.text == "Hello there."
    assert kinds[0] is TurnAccepted
    assert kinds[-1] is TurnDone


async def test_same_turn_again_returns_what_is_stored_without_asking_the_model(history: SqlHistory) -> None:
    chat, turn = ScriptedChat("First.", "Second."), str(uuid4())
    morgan = assistant(history, chat)
    first = await done(morgan, turn, "Hello!")
    assert await done(morgan, turn, "Hello!") == first
    assert len(chat.asked) == 1
    assert len(await history.messages(first.conversation)) == 2
    with pytest.raises(Conflict):
        await done(morgan, turn, "Something else")


async def test_turn_that_was_cut_off_by_a_crash_is_answered_when_sent_again(history: SqlHistory) -> None:
    turn, conversation = str(uuid4()), str(uuid4())
    await history.store_message(turn, conversation, "Hello!", tokens=2, user=None)
    result = await done(assistant(history, ScriptedChat("Welcome back.")), turn, "Hello!")
    assert result.conversation == conversation
    assert result.answer is not None
    assert result.answer.text == "Welcome back."


async def test_same_turn_sent_twice_at_once_is_answered_once(history: SqlHistory) -> None:
    chat, turn = ScriptedChat("One.", "Two."), str(uuid4())
    morgan = assistant(history, chat)
    first, second = await asyncio.gather(done(morgan, turn, "Hello!"), done(morgan, turn, "Hello!"))
    assert first == second
    assert len(chat.asked) == 1


async def test_consumer_that_leaves_stops_the_generation_and_can_repeat_the_turn(history: SqlHistory) -> None:
    chat, turn = ScriptedChat("A long answer.", "Whole."), str(uuid4())
    chat.gate.clear()
    morgan = assistant(history, chat)
    async with aclosing(morgan.turn(turn, "Hello!")) as events:
        async for event in events:
            if isinstance(event, Delta):
                break
    assert chat.closed == 1
    stored = await history.turn(turn)
    assert stored is not None
    assert stored.answer is None
    chat.gate.set()
    answered = await done(morgan, turn, "Hello!")
    assert answered.answer is not None
    assert answered.answer.text == "Whole."


async def test_note_is_stored_without_asking_the_model(history: SqlHistory) -> None:
    chat = ScriptedChat("Never said.")
    events = [e async for e in assistant(history, chat).turn(str(uuid4()), "The key is under the mat.", answer=False)]
    assert isinstance(events[-1], TurnDone)
    assert events[-1].turn.answer is None
    assert not chat.asked


async def test_invented_source_is_removed_and_a_missing_one_added(history: SqlHistory) -> None:
    """[7] leads nowhere; the sentence is borne out by passage 1."""
    chat = ScriptedChat("The pressure should read 1.2 to 1.5 bar when cold [7].")
    said, last = await shown(assistant(history, chat, retriever=FixedRetriever((PRESSURE,))), QUESTION)
    assert "[7]" not in said
    assert said == last.answer
    assert [(c.number, c.title, c.place) for c in last.citations] == [(1, "Boiler manual", "page 3")]


async def test_small_model_that_mixes_up_figures_is_replaced_by_a_quotation(history: SqlHistory) -> None:
    chat = ScriptedChat("The boiler should show 0.8 bar when cold.", info=SMALL)
    said, last = await shown(assistant(history, chat, retriever=FixedRetriever((PRESSURE,))), QUESTION)
    assert said == "The pressure should read 1.2 to 1.5 bar when cold. [1]"
    assert degrade.NOTICE_QUOTED in last.notices
    assert last.citations[0].quote in PRESSURE.text


async def test_small_model_whose_words_hold_keeps_them(history: SqlHistory) -> None:
    chat = ScriptedChat("The pressure should read between 1.2 and 1.5 bar.", info=SMALL)
    said, last = await shown(assistant(history, chat, retriever=FixedRetriever((PRESSURE,))), QUESTION)
    assert said == "The pressure should read between 1.2 and 1.5 bar. [1]"
    assert last.notices == ()


async def test_small_model_says_that_nothing_was_found(history: SqlHistory) -> None:
    chat = ScriptedChat("Paris, surely.", info=SMALL)
    morgan = assistant(history, chat, retriever=FixedRetriever((PRESSURE,)))
    said, last = await shown(morgan, "What is the capital of France?")
    assert said == degrade.NOTHING_FOUND
    assert last.citations == ()
    assert not chat.asked


async def test_large_model_marks_its_own_knowledge(history: SqlHistory) -> None:
    morgan = assistant(history, ScriptedChat("Paris."), retriever=FixedRetriever((PRESSURE,)))
    said, last = await shown(morgan, "What is the capital of France?")
    assert said == "Paris."
    assert last.notices == (degrade.NOTICE_OWN_KNOWLEDGE,)


@pytest.mark.parametrize(
    "said", ["[1]", " [1] .", "[7]", "", " \n ", "...", "# Pressure", "**Answer:** [1]", "Answer:\n\n[1]"]
)
async def test_an_answer_without_words_is_a_quotation(history: SqlHistory, said: str) -> None:
    """Only markers, punctuation, blanks or a heading: the passage says it. What was streamed is what is stored."""
    morgan, turn = assistant(history, ScriptedChat(said), retriever=FixedRetriever((PRESSURE,))), str(uuid4())
    streamed = ""
    async for event in morgan.turn(turn, QUESTION):
        match event:
            case Delta(piece):
                streamed += piece
            case Replace(whole):
                streamed = whole
    stored = await history.turn(turn)
    assert stored is not None
    assert stored.answer is not None
    assert streamed == stored.answer.text == "The pressure should read 1.2 to 1.5 bar when cold. [1]"
    assert [citation.number for citation in stored.answer.citations] == [1]
    assert stored.answer.notices == (degrade.NOTICE_QUOTED,)


async def test_nothing_is_streamed_before_there_are_words(history: SqlHistory) -> None:
    """Whoever cannot take back what was shown, as clients of OpenAI's API, is not shown a lone marker."""
    chat = ScriptedChat("[1] ... [1]", "[1] It is 1.3 bar.")
    morgan = assistant(history, chat, retriever=FixedRetriever((PRESSURE,)))
    quoted = [event async for event in morgan.query(QUESTION)]
    assert quoted[:-1] == [Delta("The pressure should read 1.2 to 1.5 bar when cold. [1]")]
    said = [event async for event in morgan.query(QUESTION)]
    assert said[0] == Delta("[1] It")
    assert not any(isinstance(event, Replace) for event in said)


async def test_small_talk_without_words_is_answered_with_some(history: SqlHistory) -> None:
    said, last = await shown(assistant(history, ScriptedChat("...")), "Hello!")
    assert said == last.answer == degrade.SMALL_TALK_FAILED
    assert await shown(assistant(history, ScriptedChat("👍")), "Thanks!") == ("👍", QueryDone("👍"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("3 [1]", True), ("3", True), ("Ja", True), ("はい", True), ("+", True), ("# Eggs\n3", True),
        ("- [1] three", True),
        ("[1], [2]", False), ("", False), ("\n\t", False), ("?!", False), ("**", False),
        ("# Eggs", False), ("## Eggs [1]\n", False), ("Answer:", False), ("> [3]", False), ("```\n```", False),
        ("| | |", False),
    ],
)  # fmt: skip
def test_what_says_something(text: str, *, wanted: bool) -> None:
    assert says_something(text) == wanted


async def test_small_talk_searches_nothing_and_cites_nothing(history: SqlHistory) -> None:
    retriever = FixedRetriever((PRESSURE,))
    for text in ("Hello!", "Thank you very much", "How are you?"):
        _, last = await shown(assistant(history, ScriptedChat("Fine.", info=SMALL), retriever=retriever), text)
        assert last.citations == ()
        assert last.notices == ()
    assert not retriever.asked


async def test_fast_model_answers_when_the_main_one_dies_in_the_middle(history: SqlHistory) -> None:
    morgan = assistant(history, ScriptedChat(Unavailable("died")), fast=ScriptedChat("Fast answer."))
    said, last = await shown(morgan, "Hello!")
    assert said == "Fast answer."
    assert last.notices == (degrade.NOTICE_FAST,)


async def test_without_any_model_the_passages_are_told(history: SqlHistory) -> None:
    said, last = await shown(assistant(history, ScriptedChat(), retriever=FixedRetriever((PRESSURE,))), QUESTION)
    assert said.startswith(degrade.NO_LLM_PASSAGES)
    assert "1.2 to 1.5 bar" in said
    assert last.notices == (degrade.NOTICE_NO_LLM,)
    assert len(last.citations) == 1


async def test_message_beyond_the_context_is_refused_and_not_stored(history: SqlHistory) -> None:
    turn = str(uuid4())
    with pytest.raises(InvalidInput, match="too long"):
        await done(assistant(history, ScriptedChat("x")), turn, "word " * 20_000)
    assert await history.turn(turn) is None


async def test_follow_up_is_searched_with_the_message_before_it(history: SqlHistory) -> None:
    """A message with a single word to look up says too little by itself."""
    retriever, conversation = FixedRetriever((PRESSURE,)), str(uuid4())
    morgan = assistant(history, ScriptedChat("It is 1.2 to 1.5 bar [1]."), retriever=retriever)
    await done(morgan, str(uuid4()), QUESTION, conversation)
    await done(morgan, str(uuid4()), "And when not cold?", conversation)
    await morgan.close()
    assert retriever.asked == [QUESTION, f"{QUESTION} And when not cold?"]


@pytest.mark.parametrize("small", [True, False])
async def test_long_conversation_gets_a_summary_and_loses_no_message(history: SqlHistory, *, small: bool) -> None:
    conversation = str(uuid4())
    chat = ScriptedChat("Noted. " + "Fine words here. " * 30, info=SMALL) if small else ScriptedChat("Noted. " * 400)
    morgan = assistant(history, chat)
    for number in range(12):
        await done(morgan, str(uuid4()), f"Hello number {number}. " + "blah " * 100, conversation)
        while morgan.summarising:
            await asyncio.sleep(0.01)
    stored = await history.conversation(conversation)
    assert stored.summary
    assert stored.summary_through
    assert len(await history.messages(conversation)) == 24


async def test_client_history_is_answered_and_not_stored(history: SqlHistory) -> None:
    chat = ScriptedChat("Your name is Ada.")
    messages = [ChatMessage("user", "I am Ada."), ChatMessage("assistant", "Hi."), ChatMessage("user", "Who am I?")]
    events = [event async for event in assistant(history, chat).chat_completion(messages, documents=False)]
    assert events[-1] == QueryDone("Your name is Ada.")
    assert [message.content for message in chat.asked[0][1:]] == ["I am Ada.", "Hi.", "Who am I?"]
    assert await history.conversations() == []
    with pytest.raises(InvalidInput):
        _ = [event async for event in assistant(history, chat).chat_completion([])]
