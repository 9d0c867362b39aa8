"""How a person's message gets into the history: stored at once, or kept on this host while the database is away.

What waits is never overtaken: while a conversation has messages in the outbox, the next one goes there too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from morgand.assistant import degrade
from morgand.assistant.events import Queued
from morgand.base.clock import Clock
from morgand.base.errors import NotHereNow, Overloaded, StorageFull, Unavailable
from morgand.storage.outbox import KeptMessage, Outbox, OutboxEntry, check_same

log = logging.getLogger("morgand.outbox")

LOOK_S = 0.25  # how often it is looked whether waiting makes sense still

T = TypeVar("T")


class DatabaseUnreached(Unavailable):
    """The database cannot be reached right now."""


class DatabasePatience:
    """The time one turn waits for the database, over all its calls.

    ``limit_s`` is asked again and again: what is known of the database changes while a message waits.
    """

    def __init__(self, limit_s: Callable[[], float], clock: Clock) -> None:
        self._limit_s, self._clock = limit_s, clock
        self._began_s = clock.monotonic()

    async def reach(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of a call of the history that may be done twice. Raises Unreached when patience has ended."""
        doing: asyncio.Future[T] | None = None
        reason: Exception | None = None
        try:
            while (left_s := self._limit_s() - (self._clock.monotonic() - self._began_s)) > 0:
                doing = doing or asyncio.ensure_future(work())
                await asyncio.wait((doing,), timeout=min(left_s, LOOK_S))
                if not doing.done():
                    continue
                try:
                    return doing.result()
                except (Overloaded, StorageFull):
                    raise  # it is there, and says what is wrong
                except NotHereNow as err:
                    reason, doing = err, None
                    await self._clock.sleep(min(left_s, LOOK_S))
        finally:
            if doing is not None:
                doing.cancel()
                await asyncio.gather(doing, return_exceptions=True)
        raise DatabaseUnreached from reason


class Delivery:
    """What one host does with messages. ``patience_s``: how long one waits for the database, as things stand."""

    def __init__(self, outbox: Outbox, patience_s: Callable[[], float], clock: Clock) -> None:
        self._outbox, self._patience_s, self._clock = outbox, patience_s, clock

    def patience(self) -> DatabasePatience:
        """Of a turn that begins now."""
        return DatabasePatience(self._patience_s, self._clock)

    def waiting(self, turn: str, text: str, conversation: str | None) -> Queued | None:
        """What to say to a turn that is kept already. Raises Conflict if its content is another now."""
        entry = self._outbox.find(turn)
        if entry is None:
            return None
        check_same(entry, text, conversation)
        return self._told(entry)

    def held_up(self, message: KeptMessage) -> bool:
        """Whether earlier messages of its conversation wait here."""
        return self._outbox.holds_up(message.place)

    async def keep(self, message: KeptMessage) -> Queued:
        """Keep it durably. Raises Conflict, InvalidInput, Overloaded (the outbox is full), StorageFull."""
        entry = await self._outbox.put(message)
        log.info("message kept", extra={"turn": entry.turn, "conversation": entry.place})
        return self._told(entry)

    def _told(self, entry: OutboxEntry) -> Queued:
        return Queued(entry.turn, entry.place, degrade.kept_on(self._outbox.host))
