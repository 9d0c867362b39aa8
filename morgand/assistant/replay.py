"""Sends what waits in the outbox, as soon as the database can be reached again: each conversation in its order.

A message leaves the outbox when it is stored and its answer is too; done twice it is done once, since it goes by its
own id. What is refused for good is set aside with the reason, and holds up nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from morgand.assistant.events import TurnAccepted, TurnEvent
from morgand.base.clock import Clock
from morgand.base.errors import Conflict, InvalidInput, MorganError, NotFound, NotHereNow, Unavailable, Unforeseen
from morgand.state.hosts import HostState
from morgand.storage.outbox import KeptMessage, Outbox, OutboxEntry, heads
from morgand.storage.sealed import DamagedFile

log = logging.getLogger("morgand.outbox")

PATIENCE_S = 10.0  # a database that is moving is back by then
LAST_LOOK_S = 1.0  # with nobody left to move it: its host may still answer
QUORUM_LOST_S = 5.0  # etcd choosing another leader takes less

AT_ONCE = 4  # conversations
STORE_S = 30.0  # until one message is stored
ANSWER_S = 900.0  # until it is answered: a long answer of a small machine
ANSWER_TRIES = 10  # then the person has to ask again: the message is stored
FAULTS = 3  # of ours, until a message is set aside
FIRST_PAUSE_S, LAST_PAUSE_S = 0.5, 5.0
FOR_GOOD = (Conflict, InvalidInput, NotFound)


class Replayer(Protocol):
    """The assistant, as far as messages from the outbox are concerned."""

    def replay(self, message: KeptMessage) -> AsyncGenerator[TurnEvent, None]: ...


def patience_s(database: HostState | None, quorum_lost_s: float) -> float:
    """How long a message waits for the database before it is kept here, seconds.

    ``database`` is how its host stands (None: nobody has it), ``quorum_lost_s`` for how long nothing can be decided.
    """
    if database is HostState.FENCED:
        return 0.0
    if database is HostState.LEFT or quorum_lost_s > QUORUM_LOST_S:
        return LAST_LOOK_S
    return PATIENCE_S


class Verdict(Enum):
    """What becomes of a message after a try."""

    DONE = "done"  # all that can be done for it is done
    REFUSED = "refused"
    AGAIN = "again"


@dataclass(frozen=True, slots=True)
class Tries:
    """What went wrong with one message besides the database being away: faults of ours, answers that failed."""

    faults: int = 0
    answers: int = 0


def judge(err: MorganError, tries: Tries, *, delivered: bool) -> Verdict:
    """What to do about a try that failed. ``delivered``: the message is stored, its answer is not."""
    if delivered:
        may_pass = isinstance(err, NotHereNow) and tries.answers < ANSWER_TRIES
        return Verdict.AGAIN if may_pass else Verdict.DONE
    for_good = isinstance(err, FOR_GOOD) or tries.faults >= FAULTS
    return Verdict.REFUSED if for_good else Verdict.AGAIN


class Replay:
    """One for the daemon; ``run`` until cancelled."""

    def __init__(self, outbox: Outbox, assistant: Replayer, clock: Clock, *, store_s: float = STORE_S) -> None:
        """``store_s``: how long one try may take until the message is stored, seconds."""
        self._outbox, self._assistant, self._clock, self._store_s = outbox, assistant, clock, store_s
        self._tries: dict[str, Tries] = {}  # by turn
        self._places = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Every conversation with something to send has a task of its own."""
        at_work: set[str] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                changed = self._outbox.next()
                for one in heads(self._outbox.waiting()):
                    if one.place not in at_work:
                        at_work.add(one.place)
                        group.create_task(self._conversation(one.place, at_work))
                await changed.wait()

    async def _conversation(self, place: str, at_work: set[str]) -> None:
        """Send what waits in one conversation, one message after the other, until nothing is left."""
        pause_s = FIRST_PAUSE_S
        while (entry := next((one for one in self._outbox.waiting() if one.place == place), None)) is not None:
            async with self._places:
                again = await self._try(entry)
            if again:
                await self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_PAUSE_S) if again else FIRST_PAUSE_S
        at_work.discard(place)  # with nothing awaited since the look: what comes now begins a new task

    async def _try(self, entry: OutboxEntry) -> bool:
        """Whether it has to be tried again."""
        failed = await self._failure(entry)
        if isinstance(failed, DamagedFile):
            return False  # it is set aside
        delivered = self._outbox.find(entry.turn) is None
        verdict = Verdict.DONE
        if failed is not None:
            self._count(entry.turn, failed, delivered=delivered)
            verdict = judge(failed, self._tries[entry.turn], delivered=delivered)
            log.debug("try failed", extra={"turn": entry.turn, "verdict": verdict.value, "reason": failed.message})
        if verdict is Verdict.AGAIN:
            return True
        try:
            if verdict is Verdict.REFUSED:
                assert failed is not None
                await self._outbox.refuse(entry, failed.message)
                log.warning("kept message refused", extra={"turn": entry.turn, "reason": failed.message})
            else:
                await self._outbox.remove(entry)
                log.info("kept message sent", extra={"turn": entry.turn, "conversation": entry.place})
        except DamagedFile:
            return False  # it is set aside
        except MorganError as err:
            log.warning("outbox cannot be written", extra={"reason": err.message})
            return verdict is Verdict.REFUSED
        self._tries.pop(entry.turn, None)
        return False

    async def _failure(self, entry: OutboxEntry) -> MorganError | None:
        """Send one message and make its answer; what went wrong, or None."""
        try:
            message = await self._outbox.read(entry)
            async with asyncio.timeout(self._store_s) as limit, aclosing(self._assistant.replay(message)) as events:
                async for event in events:
                    if isinstance(event, TurnAccepted):
                        self._outbox.delivered(entry)
                        limit.reschedule(asyncio.get_running_loop().time() + ANSWER_S)
        except MorganError as err:
            return err
        except TimeoutError:
            return Unavailable("It took too long.")
        except Exception:  # supervisor of all replays: a fault of ours costs one message, with a trace
            log.exception("replay failed", extra={"turn": entry.turn})
            return Unforeseen()
        return None

    def _count(self, turn: str, failed: MorganError, *, delivered: bool) -> None:
        before = self._tries.get(turn, Tries())
        self._tries[turn] = Tries(before.faults + isinstance(failed, Unforeseen), before.answers + delivered)
