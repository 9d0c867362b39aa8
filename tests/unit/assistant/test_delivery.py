"""Messages while the database is away: kept durably and said so, in order, under the limits of any other turn."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest

from morgand.assistant.assistant import Assistant
from morgand.assistant.delivery import Delivery
from morgand.assistant.events import Queued, TurnDone, TurnEvent
from morgand.base.clock import SystemClock
from morgand.base.errors import Conflict, InvalidInput, Overloaded, StorageFull
from morgand.config import Config
from morgand.storage.history import SqlHistory
from morgand.storage.outbox import Outbox
from tests.fakes.assistant import FixedRetriever, ScriptedChat, WordReranker
from tests.fakes.moving import Moving


@dataclass
class Gateway:
    """A host whose database is another's."""

    morgan: Assistant
    history: Moving
    outbox: Outbox
    patience_s: list[float] = field(default_factory=lambda: [0.4])

    async def say(self, text: str, **more: object) -> TurnEvent:
        """The last event of one turn."""
        turn = str(more.pop("turn", uuid4()))
        return [event async for event in self.morgan.turn(turn, text, **more)][-1]  # type: ignore[arg-type]


@pytest.fixture
async def gateway(history: SqlHistory, tmp_path: Path) -> Gateway:
    moving, outbox, patience_s = Moving(history), Outbox(tmp_path, "atlas"), [0.4]
    await outbox.open()
    delivery = Delivery(outbox, lambda: patience_s[0], SystemClock())
    morgan = Assistant(
        chat=ScriptedChat("Fine."), fast=None, retriever=FixedRetriever(), reranker=WordReranker(),
        history=moving.port, delivery=delivery, settings=Config,
    )  # fmt: skip
    return Gateway(morgan, moving, outbox, patience_s)


async def test_a_message_is_kept_durably_and_the_person_is_told_where(gateway: Gateway, tmp_path: Path) -> None:
    gateway.history.leave()
    turn = str(uuid4())
    said = await gateway.say("Hello!", turn=turn)
    assert isinstance(said, Queued)
    assert said.message == "Your message is kept on atlas and will be sent as soon as the database can be reached."
    restarted = Outbox(tmp_path, "atlas")
    await restarted.open()
    (entry,) = restarted.waiting()
    assert (entry.turn, entry.place) == (turn, said.conversation)
    assert (await restarted.read(entry)).text == "Hello!"


async def test_a_database_that_is_back_within_patience_is_waited_for(gateway: Gateway) -> None:
    """What a normal failover takes costs a wait, and nothing goes to the outbox."""
    gateway.patience_s[0] = 10.0
    gateway.history.leave()
    asyncio.get_running_loop().call_later(0.6, gateway.history.come_back)
    assert isinstance(await gateway.say("Hello!"), TurnDone)
    assert gateway.outbox.all() == []


async def test_patience_ends_as_soon_as_waiting_makes_no_sense(gateway: Gateway) -> None:
    """The database's host is given up while a call of it hangs: the message is kept at once."""
    gateway.patience_s[0] = 60.0
    gateway.history.hang = asyncio.Event()
    asyncio.get_running_loop().call_later(0.3, gateway.patience_s.__setitem__, 0, 0.0)
    began_s = time.monotonic()
    assert isinstance(await gateway.say("Hello!"), Queued)
    assert time.monotonic() - began_s < 20


async def test_the_same_turn_again_is_told_the_same_and_kept_once(gateway: Gateway) -> None:
    gateway.history.leave()
    turn = str(uuid4())
    first, again = [await gateway.say("Hello!", turn=turn) for _ in range(2)]
    assert first == again
    gateway.history.come_back()
    assert await gateway.say("Hello!", turn=turn) == first  # it is sent by the outbox, not by whoever repeats it
    assert len(gateway.outbox.waiting()) == 1
    with pytest.raises(Conflict):
        await gateway.say("Something else", turn=turn)


async def test_what_comes_later_does_not_overtake_what_waits(gateway: Gateway) -> None:
    """In the same conversation, even when the database is back; another conversation is free to go."""
    gateway.history.leave()
    first = await gateway.say("one")
    assert isinstance(first, Queued)
    gateway.history.come_back()
    assert isinstance(await gateway.say("two", conversation=first.conversation), Queued)
    assert isinstance(await gateway.say("elsewhere"), TurnDone)
    assert [(await gateway.outbox.read(one)).text for one in gateway.outbox.waiting()] == ["one", "two"]


@pytest.mark.parametrize("error", [StorageFull("The disk is full."), Overloaded(retry_after_s=3), Conflict("No.")])
async def test_a_database_that_answers_no_is_not_away(gateway: Gateway, error: Exception) -> None:
    """The person is told what is wrong; nothing is kept."""
    gateway.history.error = error  # type: ignore[assignment]
    with pytest.raises(type(error)):
        await gateway.say("Hello!")
    assert gateway.outbox.all() == []


async def test_what_could_never_be_answered_is_refused_before_it_is_kept(gateway: Gateway) -> None:
    gateway.history.leave()
    with pytest.raises(InvalidInput, match="too long"):
        await gateway.say("word " * 20_000)
    with pytest.raises(InvalidInput):
        await gateway.say("Hello!", turn="no uuid")
    assert gateway.outbox.all() == []


async def test_a_store_whose_answer_was_lost_is_kept_and_stays_one_message(
    gateway: Gateway, history: SqlHistory
) -> None:
    """Nobody can tell whether it was stored: kept under its id it is there once in the end."""
    gateway.history.leave()
    gateway.history.lost = True
    turn = str(uuid4())
    said = await gateway.say("Hello!", turn=turn)
    assert isinstance(said, Queued)
    gateway.history.come_back()
    (entry,) = gateway.outbox.waiting()
    replayed = [event async for event in gateway.morgan.replay(await gateway.outbox.read(entry))]
    assert isinstance(replayed[-1], TurnDone)
    assert [one.text for one in await history.messages(said.conversation)] == ["Hello!", "Fine."]


async def test_a_replayed_message_keeps_the_time_it_was_sent_at(gateway: Gateway, history: SqlHistory) -> None:
    """And does not turn back the time of its conversation."""
    gateway.history.leave()
    first = await gateway.say("early")
    assert isinstance(first, Queued)
    gateway.history.come_back()
    await history.store_message(str(uuid4()), first.conversation, "through another host", tokens=1, user=None)
    updated = (await history.conversation(first.conversation)).updated
    (entry,) = gateway.outbox.waiting()
    kept = await gateway.outbox.read(entry)
    await history.store_message(kept.turn, None, kept.text, tokens=1, user=None, created=kept.created)
    stored = await history.turn(kept.turn)
    assert stored is not None
    assert stored.message.created == kept.created
    assert (await history.conversation(first.conversation)).updated == updated
