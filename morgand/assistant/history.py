"""Which part of a conversation goes into the prompt, and when the older part becomes a summary.

Messages are never removed from storage: a summary only stands for them in the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from morgand.assistant.prompt import MESSAGE_OVERHEAD, Sized, estimate_tokens
from morgand.assistant.rag.cite import without_markers
from morgand.assistant.text import sentences
from morgand.state.assistant import Message, Speaker
from morgand.state.ports import ChatMessage, History

HISTORY_SHARE = 0.5  # of the context: what history may take before its older half is summarised
SUMMARY_SHARE = 0.1  # of the context: the longest summary
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a conversation that still counts word by word, oldest first, and the summary before it."""

    messages: tuple[Message, ...] = ()
    summary: str | None = None

    def sized(self) -> list[Sized]:
        """For the prompt: markers of old answers would point to passages that are no longer there."""
        return [
            Sized(without_markers(message.text), message.tokens, message.speaker.value)
            for message in self.messages
            if message.speaker is not Speaker.SYSTEM
        ]

    def sized_summary(self) -> Sized | None:
        return Sized(self.summary, estimate_tokens(self.summary)) if self.summary else None


async def read_window(history: History, conversation: str, before: str | None = None) -> Window:
    """The messages after the summary, up to the message ``before`` (that one excluded)."""
    stored, page = await history.since_summary(conversation, limit=PAGE)
    found = page
    while len(page) == PAGE and not any(message.id == before for message in page):
        page = await history.messages(conversation, after=page[-1].id, limit=PAGE)
        found = found + page
    ids = [message.id for message in found]
    end = ids.index(before) if before in ids else len(found)
    return Window(tuple(found[:end]), stored.summary)


def outgrown(messages: Sequence[Message], context: int) -> int:
    """How many of the oldest messages a summary should cover now: 0 while the history is within its share.

    Afterwards the newest half of the budget stays word by word, so that this is rare.
    """
    sizes = [message.tokens + MESSAGE_OVERHEAD for message in messages]
    budget = int(context * HISTORY_SHARE)
    if sum(sizes) <= budget:
        return 0
    left = budget // 2
    for count, size in enumerate(reversed(sizes)):
        left -= size
        if left < 0:
            return len(sizes) - count
    return 0


def extractive_summary(previous: str | None, messages: Sequence[Message], context: int) -> str:
    """What the person said, first sentence of each message: for models too small to summarise. Newest kept."""
    said = [first for message in messages if message.speaker is Speaker.USER and (first := _first(message.text))]
    lines = (previous.removeprefix("The person said: ").split(" / ") if previous else []) + said
    budget = int(context * SUMMARY_SHARE)
    kept: list[str] = []
    for line in reversed(lines):
        budget -= estimate_tokens(line)
        if budget < 0:
            break
        kept.insert(0, line)
    return "The person said: " + " / ".join(kept)


def summary_prompt(previous: str | None, messages: Sequence[Message], context: int) -> tuple[ChatMessage, ...]:
    """Ask a larger model for a summary; the oldest lines are left out when all of them do not fit."""
    budget = int(context * 0.7)
    lines: list[str] = []
    for message in reversed(messages):
        line = f"{message.speaker.value}: {without_markers(message.text)}"
        budget -= estimate_tokens(line)
        if budget < 0:
            break
        lines.insert(0, line)
    earlier = f"Summary so far: {previous}\n\n" if previous else ""
    task = (
        "Summarise this conversation for your own later use: facts, names, numbers, wishes and open questions. "
        "At most 120 words."
    )
    return (ChatMessage("system", task), ChatMessage("user", earlier + "\n".join(lines)))


def _first(text: str) -> str:
    found = sentences(text[:1000])
    return found[0][:200].replace(" / ", " ") if found else ""
