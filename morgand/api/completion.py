"""One chat completion, streamed or whole, from pieces that the engine and the assistant both become."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal, cast

from msgspec import UNSET, UnsetType

from morgand.api import dialect, views
from morgand.api.schema import CitationView
from morgand.assistant.events import Delta, QueryDone, QueryEvent, Replace
from morgand.base.errors import MorganError, NotHereNow
from morgand.state.ports import Chat, ChatDelta, ChatMessage

Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class AnswerPiece:
    """Text to append; the last piece carries ``finish``, token counts, and what the assistant found.

    ``answer`` is set on it when the text that was streamed is not the final one.
    """

    text: str
    finish: Finish | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    citations: tuple[CitationView, ...] | None = None
    answer: str | None = None


async def direct_pieces(deltas: AsyncIterator[ChatDelta]) -> AsyncGenerator[AnswerPiece, None]:
    """The engine's own stream."""
    async with aclosing(cast("AsyncGenerator[ChatDelta, None]", deltas)) as stream:
        async for delta in stream:
            finish: Finish | None = None if delta.finish is None else "length" if delta.finish == "length" else "stop"
            yield AnswerPiece(delta.text, finish, delta.prompt_tokens, delta.completion_tokens)


async def assistant_pieces(
    events: AsyncIterator[QueryEvent], chat: Chat, messages: Sequence[ChatMessage]
) -> AsyncGenerator[AnswerPiece, None]:
    """The assistant's stream. This dialect cannot take text back: a changed answer comes with the last piece."""
    sent = ""
    async with aclosing(cast("AsyncGenerator[QueryEvent, None]", events)) as stream:
        async for event in stream:
            match event:
                case Delta(text):
                    sent += text
                    yield AnswerPiece(text)
                case Replace(text) if text.startswith(sent):
                    yield AnswerPiece(text[len(sent) :])
                    sent = text
                case QueryDone():
                    rest = event.answer[len(sent) :] if event.answer.startswith(sent) else ""
                    prompt, completion = await _counts(chat, messages, event.answer)
                    citations = tuple(views.citation(one) for one in event.citations)
                    changed = None if sent + rest == event.answer else event.answer
                    yield AnswerPiece(rest, "stop", prompt, completion, citations, changed)


async def _counts(chat: Chat, messages: Sequence[ChatMessage], answer: str) -> tuple[int, int]:
    """Tokens of what was sent and of the answer; zeros when no LLM is there to count."""
    try:
        *prompt, completion = await chat.count_tokens([*(one.content for one in messages), answer])
    except NotHereNow:
        return 0, 0
    return sum(prompt), completion


class ChatCompletion:
    def __init__(self, completion_id: str, model: str, created: int) -> None:
        self._id = completion_id
        self._model = model
        self._created = created

    async def frames(
        self, pieces: AsyncIterator[AnswerPiece], *, include_usage: bool
    ) -> AsyncGenerator[dialect.ChatChunk, None]:
        """Chunks as OpenAI sends them: the first one names the role, the last one may hold the usage."""
        first = True
        usage: UnsetType | None = None if include_usage else UNSET
        async with aclosing(cast("AsyncGenerator[AnswerPiece, None]", pieces)) as stream:
            async for piece in stream:
                delta = dialect.DeltaText("assistant" if first else UNSET, piece.text if piece.text or first else UNSET)
                chunk = self._chunk([dialect.ChunkChoice(0, delta, piece.finish)])
                chunk.usage = usage
                chunk.citations = UNSET if piece.citations is None else list(piece.citations)
                chunk.answer = UNSET if piece.answer is None else piece.answer
                first = False
                yield chunk
                if piece.finish is not None and include_usage:
                    last = self._chunk([])
                    last.usage = _usage(piece)
                    yield last

    async def whole(self, pieces: AsyncIterator[AnswerPiece]) -> dialect.ChatReply:
        text, last = "", None
        async for piece in pieces:
            text, last = text + piece.text, piece
        if last is None or last.finish is None:
            raise MorganError("The answer ended before it was complete.")
        message = dialect.Spoken("assistant", text if last.answer is None else last.answer)
        return dialect.ChatReply(
            self._id,
            "chat.completion",
            self._created,
            self._model,
            [dialect.Choice(0, message, last.finish)],
            _usage(last),
            UNSET if last.citations is None else list(last.citations),
        )

    def _chunk(self, choices: list[dialect.ChunkChoice]) -> dialect.ChatChunk:
        return dialect.ChatChunk(self._id, "chat.completion.chunk", self._created, self._model, choices)


def _usage(piece: AnswerPiece) -> dialect.TokenUsage:
    return dialect.TokenUsage(
        piece.prompt_tokens, piece.completion_tokens, piece.prompt_tokens + piece.completion_tokens
    )
