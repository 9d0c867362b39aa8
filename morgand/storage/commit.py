"""Committing on PostgreSQL, so that what is acknowledged is stored on the standby too.

The server waits for its standby inside COMMIT. A client that gives up waiting must not cancel the command: the server
would then answer at once, with a warning, and show everybody what no standby has. So the connection is dropped
instead, and whatever is not a plain success counts as unknown: the caller tries again under the same id.
See "synchronous replication" and its notes in the manual, chapter 27.2.8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from morgand.base.errors import Unavailable

COMMIT_DEADLINE_S = 10.0  # below the deadline of commands, which would cancel the commit


@dataclass(frozen=True, slots=True)
class Wire:
    """A connection of the driver, and what the server remarked on it since a commit began."""

    driver: Any
    remarks: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """The driver hands a remark over before it hands over the result of the command that caused it."""
        self.driver.add_log_listener(lambda _, remark: self.remarks.append(str(remark)))

    def drop(self) -> None:
        """Close the socket without a word: no cancel request, no waiting."""
        self.driver.terminate()


async def commit(
    work: Callable[[], Coroutine[Any, Any, None]], wire: Wire | None, *, within_s: float = COMMIT_DEADLINE_S
) -> None:
    """Perform ``work``, which commits. ``wire`` None: a file, whose commit is always waited for.

    Raises Unavailable when it is not known whether the commit will last.
    """
    if wire is not None:
        wire.remarks.clear()
    committing = asyncio.create_task(work())
    try:
        done, _ = await asyncio.wait([committing], timeout=None if wire is None else within_s)
    except asyncio.CancelledError:
        await _give_up(committing, wire)
        raise
    if wire is not None and not done:
        await _give_up(committing, wire)
        raise _unknown("it took too long")
    await committing
    if wire is not None and wire.remarks:
        raise _unknown("; ".join(wire.remarks))


async def _give_up(committing: asyncio.Task[None], wire: Wire | None) -> None:
    if wire is not None:
        wire.drop()
    await asyncio.wait([committing])
    if not committing.cancelled():
        committing.exception()  # seen: the outcome is unknown in any case


def _unknown(why: str) -> Unavailable:
    return Unavailable(f"It is not known whether the change is stored ({why}).", remedy="Send it again.")
