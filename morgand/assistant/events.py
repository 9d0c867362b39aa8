"""What the assistant says while it answers: a stream that ends in exactly one of the Done events, or in Queued."""

from __future__ import annotations

from dataclasses import dataclass

from morgand.state.assistant import Citation, Turn


@dataclass(frozen=True, slots=True)
class TurnAccepted:
    """The person's message is stored durably; the answer follows."""

    id: str
    conversation: str


@dataclass(frozen=True, slots=True)
class Queued:
    """The message is kept on this host until the database can be reached; the last event for now."""

    id: str
    conversation: str
    message: str


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Replace:
    """Forget every piece so far: this is the answer's text (a check changed it, an invented source was removed)."""

    text: str


@dataclass(frozen=True, slots=True)
class TurnDone:
    """The turn is stored; the last event of every turn that is not queued."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class QueryDone:
    """The whole answer of a question without history; always the last event of a query."""

    answer: str
    citations: tuple[Citation, ...] = ()
    notices: tuple[str, ...] = ()


TurnEvent = TurnAccepted | Queued | Delta | Replace | TurnDone
QueryEvent = Delta | Replace | QueryDone
