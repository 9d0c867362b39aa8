"""The answer as its events arrive (pure): the text so far, and what came with it at the end."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from morganctl.errors import CliError, from_event
from morganctl.sse import Event
from morgand.api.schema import ErrorReply, QueryReply, QueuedReply, TurnReply

R = TypeVar("R", TurnReply, QueryReply)


class Accepted(msgspec.Struct):
    """The turn is stored; ``conversation`` is where it went."""

    id: str
    conversation: str


class Piece(msgspec.Struct):
    text: str


class Answer(Generic[R]):
    """Folds events; ``reply`` is set once ``done`` came, ``queued`` if the message is kept instead."""

    def __init__(self, reply: type[R]) -> None:
        self._type: type[R] = reply
        self.text = ""
        self.accepted: Accepted | None = None
        self.queued: QueuedReply | None = None
        self.reply: R | None = None

    def apply(self, event: Event) -> None:
        """Take one event. Raises CliError for ``error`` events and for what is not of this API; unknown ones pass."""
        try:
            self._apply(event)
        except msgspec.DecodeError as err:
            raise CliError(
                "The daemon sent an answer this version cannot read.",
                code="protocol",
                remedy="Check that morganctl and morgand have the same version.",
            ) from err

    def _apply(self, event: Event) -> None:
        if event.name == "delta":
            self.text += msgspec.json.decode(event.data, type=Piece).text
        elif event.name == "replace":
            self.text = msgspec.json.decode(event.data, type=Piece).text
        elif event.name == "accepted":
            self.accepted = msgspec.json.decode(event.data, type=Accepted)
        elif event.name == "queued":
            self.queued = msgspec.json.decode(event.data, type=QueuedReply)
        elif event.name == "done":
            self.reply = msgspec.json.decode(event.data, type=self._type)
            self.text = self.reply.answer or ""
        elif event.name == "error":
            error = msgspec.json.decode(event.data, type=ErrorReply).error
            raise from_event(error.code, error.message, error.remedy)
