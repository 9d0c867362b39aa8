"""Waiting: for what comes first or in time, for what may fail alone or as a group, and for what must not be left half
done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeVar

from morgand.base.clock import Clock
from morgand.base.errors import MorganError, Unforeseen

log = logging.getLogger("morgand")

FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 60.0

T = TypeVar("T")


async def either(one: asyncio.Event, other: asyncio.Event) -> None:
    """Wait until one of them is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


async def wait_within(event: asyncio.Event, within_s: float | None) -> bool:
    """Wait until an event is set, for so many seconds at most (None: for ever), and say whether it was."""
    try:
        async with asyncio.timeout(within_s):
            return await event.wait()
    except TimeoutError:
        return False


async def persist(
    work: Callable[[], Awaitable[T]], log: logging.Logger, what: str, *errors: type[MorganError], clock: Clock,
    pause_s: float,
) -> T:  # fmt: skip
    """Do ``work`` until it is done: each of ``errors`` is noted in the log, and it is tried again after a pause."""
    while True:
        try:
            return await work()
        except errors as err:
            log.debug(what, extra={"reason": err.message})
            await clock.sleep(pause_s)


class Pauses:
    """Between a failure and the next try: each twice as long as the one before, up to the last; the first again once it
    went well for as long as the last."""

    def __init__(self, first_s: float = FIRST_PAUSE_S, last_s: float = LAST_PAUSE_S) -> None:
        self._first_s, self._last_s = first_s, last_s
        self._next_s, self._due_s = first_s, 0.0

    def after_failure(self, now_s: float) -> float:
        """How long to wait, at ``now_s`` of a clock that is never set."""
        pause_s = self._first_s if now_s - self._due_s >= self._last_s else self._next_s
        self._next_s, self._due_s = min(2 * pause_s, self._last_s), now_s + pause_s
        return pause_s


class Parts:
    """The long-lived tasks of one group, each with what a defect of it costs: a pause, or everything."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group

    def needed(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Without this one the others are worth nothing, or do harm: a defect of it ends the group.

        The group raises Unforeseen then, and the log has the trace and the name.
        """
        return self._group.create_task(_needed(name, work), name=name)

    def dispensable(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """The others go on without this one while it is begun again."""
        return self._group.create_task(dispensable(name, work), name=name)


async def _needed(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await foreseen(work(), log, "a part that is needed failed", part=name)


async def dispensable(name: str, work: Callable[[], Coroutine[Any, Any, None]], pauses: Pauses | None = None) -> None:
    """Do ``work`` that the rest goes on without: a defect is told in the log, and it is begun again after a pause.

    A MorganError is no defect: what the work lets pass is meant for whoever waits for it.
    """
    pauses = pauses or Pauses()
    while True:
        try:
            return await isolated_task(work())
        except Exception as err:  # supervisor of what the daemon goes on without
            if _expected(err):
                raise
            pause_s = pauses.after_failure(asyncio.get_running_loop().time())
            log.exception("defect", extra={"work": name, "again_in_s": pause_s})
        await asyncio.sleep(pause_s)


def _expected(err: BaseException) -> bool:
    if isinstance(err, BaseExceptionGroup):
        return all(_expected(one) for one in err.exceptions)
    return isinstance(err, MorganError) or not isinstance(err, Exception)


async def isolated_task(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` in a task of its own, which ends with it: for whoever catches what a TaskGroup raises and goes on.

    A group whose task failed leaves a cancellation counted on the task that ran the group, and on Python 3.11.2
    every ``asyncio.timeout`` there raises CancelledError from then on: that task ends without a word.

    A caller that is cancelled in the moment in which ``work`` fails is cancelled, and hears nothing of the failure: a
    group raises what failed in place of the cancellation, and a caller that goes on after failures would never end.
    """
    try:
        return await asyncio.create_task(work)
    finally:
        caller = asyncio.current_task()
        if caller is not None and caller.cancelling():
            raise asyncio.CancelledError


@contextmanager
def cancellation_first() -> Iterator[None]:
    """Whoever is cancelled in here hears that, and not what a library made of it on its way out.

    A driver that lets go of a connection which is lost in the same moment says that it is lost: a loop that tries again
    what is unavailable would never end.
    """
    before = _cancellations()
    try:
        yield
    except Exception as err:
        if _cancellations() > before:
            raise asyncio.CancelledError from err
        raise


def _cancellations() -> int:
    """How many of this task nobody has answered yet; none where there is no task."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # a thread without a loop
        return 0
    return task.cancelling() if task is not None else 0


async def ended(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they have ended, whatever they end with: that is for others to look at.

    Never awaits a task itself: what it was cancelled with could not be told from a cancellation of the caller, which
    must pass on. Such a caller waits no longer; who has to be sure calls this again while it is being ended.
    """
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


async def in_order(*steps: Callable[[], Awaitable[object]]) -> None:
    """Take all steps of an ending: one that fails skips none of those after it, and is raised at the end."""
    async with AsyncExitStack() as stack:
        for step in reversed(steps):
            stack.push_async_callback(step)


async def foreseen(work: Awaitable[T], log: logging.Logger, what: str, **about: object) -> T:
    """Await ``work``, for whoever serves several things and goes on with the others when one fails.

    Raises only MorganError, alone or in groups: anything else is a defect of ours, which is logged here, with its
    trace, and Unforeseen.
    """
    try:
        return await work
    except Exception as err:  # supervisor of loops that serve several things
        if _expected(err):
            raise
        log.exception(what, extra=about)
        raise Unforeseen(f"A defect ended it: {err!r}.", remedy="The log has the details.") from err


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work``, which has an end of its own: whoever is cancelled meanwhile waits for it all the same. Only a
    second cancellation ends it."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
        raise
