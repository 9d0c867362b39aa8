"""The assistant as the API sees it: turns that are stored once, questions that are not stored, search, chat dialect.

Order of one turn: the person's message is stored durably, then *accepted* is said, then the answer is made, stored,
and only then the turn is done. A consumer that goes away stops the generation; what was said so far is discarded and
the same turn can be sent again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from uuid import uuid4

from morgand.assistant import history as past
from morgand.assistant.delivery import DatabaseUnreached, Delivery
from morgand.assistant.events import Delta, QueryDone, QueryEvent, Queued, Replace, TurnAccepted, TurnDone, TurnEvent
from morgand.assistant.history import Window
from morgand.assistant.prompt import estimate_tokens
from morgand.assistant.rag.retrieve import Retrieved
from morgand.assistant.turn import Answerer, CheckedAnswer, PassageSearch, TurnInput, is_long
from morgand.base.clock import Clock, SystemClock
from morgand.base.errors import InvalidInput, MorganError, NotFound
from morgand.config import Config
from morgand.state.assistant import Message, Speaker, Turn
from morgand.state.ports import Chat, ChatMessage, ChatOptions, History, Reranker
from morgand.storage.outbox import KeptMessage

log = logging.getLogger("morgand.assistant")

SUMMARY_TOKENS = 200


class Assistant:
    """One instance per host; every port is filled by the daemon. ``close`` before the ports are closed."""

    def __init__(
        self,
        *,
        chat: Chat,
        fast: Chat | None,
        retriever: PassageSearch,
        reranker: Reranker | None,
        history: History,
        delivery: Delivery,
        settings: Callable[[], Config],
        clock: Clock | None = None,
    ) -> None:
        self._chat = chat
        self._history = history
        self._delivery = delivery
        self._settings = settings
        self._clock = clock or SystemClock()
        self._answerer = Answerer(
            chat=chat, fast=fast, retriever=retriever, reranker=reranker, settings=settings, clock=self._clock
        )
        self._flights: dict[str, asyncio.Event] = {}  # turns being answered right now
        self._summaries: dict[str, asyncio.Task[None]] = {}  # by conversation

    async def turn(
        self,
        id: str,  # noqa: A002 - the name of the field in the contract
        text: str,
        *,
        conversation: str | None = None,
        answer: bool = True,
        documents: bool = True,
        user: str | None = None,
    ) -> AsyncGenerator[TurnEvent, None]:
        """Store a message, answer it, store the answer. The same ``id`` again gives the stored result.

        While the database is away the message is kept on this host: the one event is Queued, after it is durable.
        Raises Conflict (same id, other content), InvalidInput (too long), StorageFull, Unavailable.
        """
        message = KeptMessage(id, text, conversation, answer, documents, user, self._clock.now())
        async with aclosing(self._once(message, live=True)) as events:
            async for event in events:
                yield event

    async def replay(self, message: KeptMessage) -> AsyncGenerator[TurnEvent, None]:
        """The turn of a message that was kept, as if it came now but with the time it was sent at.

        Raises what ``turn`` raises, and NotFound for a conversation that was deleted meanwhile.
        """
        async with aclosing(self._once(message, live=False)) as events:
            async for event in events:
                yield event

    async def query(self, text: str, *, documents: bool = True) -> AsyncGenerator[QueryEvent, None]:
        """Answer one question without history; nothing is stored."""
        async with aclosing(self._events(TurnInput(text, documents=documents), uuid4().hex)) as events:
            async for event in events:
                yield _as_query(event)

    async def search(self, text: str, limit: int, *, rerank: bool = True) -> Retrieved:
        """Ranked passages and what was missing for it; no LLM."""
        return await self._answerer.search(text, limit, rerank=rerank)

    async def chat_completion(
        self, messages: Sequence[ChatMessage], options: ChatOptions | None = None, *, documents: bool = True
    ) -> AsyncGenerator[QueryEvent, None]:
        """Answer the last message of a conversation the client keeps. Nothing is stored."""
        request = conversation_request(messages, options, documents=documents, clock=self._clock)
        async with aclosing(self._events(request, uuid4().hex)) as events:
            async for event in events:
                yield _as_query(event)

    @property
    def summarising(self) -> int:
        """Conversations whose summary is being made."""
        return len(self._summaries)

    async def close(self) -> None:
        """End background work; a summary that is not finished is made after a later turn."""
        tasks = list(self._summaries.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- one turn ----------------------------------------------------------------------------------

    async def _once(self, message: KeptMessage, *, live: bool) -> AsyncGenerator[TurnEvent, None]:
        """A turn that comes twice at the same time is done once. ``live``: it does not come from the outbox."""
        flight: asyncio.Event | None
        while True:
            queued = self._delivery.waiting(message.turn, message.text, message.conversation) if live else None
            if queued is not None:
                yield queued
                return
            if (flight := self._flights.get(message.turn)) is None:
                break
            await flight.wait()
        self._flights[message.turn] = asyncio.Event()
        try:
            async with aclosing(self._turn(message, live=live)) as events:
                async for event in events:
                    yield event
        finally:
            self._flights.pop(message.turn).set()

    async def _turn(self, message: KeptMessage, *, live: bool) -> AsyncGenerator[TurnEvent, None]:
        turn = await (self._deliver(message) if live else self._deliver_late(message))
        if isinstance(turn, Queued):
            yield turn
            return
        yield TurnAccepted(turn.id, turn.conversation)
        if turn.answer is not None or not message.answer:
            yield TurnDone(turn)
            return
        window = await past.read_window(self._history, turn.conversation, before=turn.message.id)
        request = TurnInput(turn.message.text, window, message.documents)
        async with aclosing(self._events(request, turn.id, turn.conversation)) as events:
            async for event in events:
                if isinstance(event, CheckedAnswer):
                    yield TurnDone(await self._store(turn, event, window))
                else:
                    yield event

    async def _deliver(self, message: KeptMessage) -> Turn | Queued:
        """Store a message, or keep it on this host when the database cannot be reached within patience."""
        patience = self._delivery.patience()
        if message.answer and is_long(message.text):
            try:
                answered = await patience.reach(lambda: self._answered(message.turn))
            except DatabaseUnreached:
                answered = False
            if not answered:
                await self._answerer.check_length(message.text)  # before it is stored: it could never be answered
        if self._delivery.held_up(message):
            return await self._delivery.keep(message)
        try:
            return await patience.reach(lambda: self._store_message(message, created=None))
        except DatabaseUnreached:
            return await self._delivery.keep(message)

    async def _deliver_late(self, message: KeptMessage) -> Turn:
        if message.answer and is_long(message.text) and not await self._answered(message.turn):
            await self._answerer.check_length(message.text)
        return await self._store_message(message, created=message.created)

    async def _store_message(self, message: KeptMessage, *, created: datetime | None) -> Turn:
        return await self._history.store_message(
            message.turn, message.conversation, message.text,
            tokens=estimate_tokens(message.text), user=message.user, created=created,
        )  # fmt: skip

    async def _answered(self, turn: str) -> bool:
        known = await self._history.turn(turn)
        return known is not None and known.answer is not None

    async def _store(self, turn: Turn, answer: CheckedAnswer, window: Window) -> Turn:
        stored = await self._history.store_answer(
            turn.id,
            answer.text,
            tokens=estimate_tokens(answer.text),
            citations=answer.citations,
            notices=answer.notices,
        )
        messages = (*window.messages, turn.message, *([stored.answer] if stored.answer else []))
        if turn.conversation not in self._summaries:
            task = asyncio.create_task(self._summarise(turn.conversation, messages, window.summary))
            self._summaries[turn.conversation] = task
            task.add_done_callback(lambda _: self._summaries.pop(turn.conversation, None))
        return stored

    async def _events(
        self, request: TurnInput, turn: str, conversation: str | None = None
    ) -> AsyncGenerator[Delta | Replace | CheckedAnswer, None]:
        """The answer's events, and the one log line of the turn (never its text)."""
        begun = self._clock.monotonic()
        async with aclosing(self._answerer.answer(request)) as events:
            async for event in events:
                if isinstance(event, CheckedAnswer):
                    total = round((self._clock.monotonic() - begun) * 1000)
                    log.info(
                        "turn",
                        extra={
                            "turn": turn,
                            "conversation": conversation,
                            "mode": event.mode.value,
                            "model": event.model,
                            "passages": event.passages,
                            "cited": len(event.citations),
                            "notices": len(event.notices),
                            "ms": {**event.ms, "total": total},
                        },
                    )
                yield event

    # --- summaries ---------------------------------------------------------------------------------

    async def _summarise(self, conversation: str, messages: Sequence[Message], previous: str | None) -> None:
        """Put the older part of a conversation that outgrew its budget into a summary. A failure costs nothing."""
        try:
            info = await self._chat.info()
            covered = messages[: past.outgrown(messages, info.context_tokens)]
            if not covered:
                return
            if info.small:
                summary = past.extractive_summary(previous, covered, info.context_tokens)
            else:
                summary = await self._phrased_summary(previous, covered, info.context_tokens)
            if summary:
                await self._history.set_summary(conversation, summary, covered[-1].id)
                log.info("summarised", extra={"conversation": conversation, "messages": len(covered)})
        except NotFound:
            return  # the conversation was deleted meanwhile
        except MorganError as err:
            log.warning("summary not made", extra={"conversation": conversation, "reason": err.message})

    async def _phrased_summary(self, previous: str | None, covered: Sequence[Message], context: int) -> str:
        said = ""
        options = ChatOptions(temperature=0.0, max_tokens=SUMMARY_TOKENS)
        async for delta in self._chat.stream(past.summary_prompt(previous, covered, context), options):
            said += delta.text
        return said.strip()


def conversation_request(
    messages: Sequence[ChatMessage], options: ChatOptions | None, *, documents: bool, clock: Clock
) -> TurnInput:
    """A client's messages as a request: its system messages, its history, its question. Raises InvalidInput."""
    if not messages or messages[-1].role != "user":
        raise InvalidInput("The last message must be the person's.", remedy="End 'messages' with role 'user'.")
    system = "\n\n".join(message.content for message in messages if message.role == "system") or None
    window = tuple(
        Message(
            id=str(number),
            conversation="",
            speaker=Speaker(message.role),
            text=message.content,
            tokens=estimate_tokens(message.content),
            created=clock.now(),
        )
        for number, message in enumerate(messages[:-1])
        if message.role != "system"
    )
    return TurnInput(messages[-1].content, Window(window), documents, options, system)


def _as_query(event: Delta | Replace | CheckedAnswer) -> QueryEvent:
    return QueryDone(event.text, event.citations, event.notices) if isinstance(event, CheckedAnswer) else event
