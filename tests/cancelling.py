"""Cancels a loop at each of its awaits, one after the other, and sees that it works as new when it is run again.

A loop of the daemon is cancelled wherever it happens to be: a role moves away and comes back, leadership is lost and
won. ``survives`` plays the same story again and again, in virtual time and without threads, so that the n-th step is
the same one every time; it cancels the loop at step 1, 2, 3 and so on until the story ends before that. At each it does
so several times over: what is lost a little at a time is missed only when all of it is gone.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

ENDS_S = 60.0  # a loop that is cancelled has ended by then
WORKS_S = 300.0  # what it is for is done by then, in virtual time
MOST_STEPS = 20_000
TIMES = 3  # the loop is cancelled in the same place before it has to work


class Story(Protocol):
    """A loop under test, and what it is for."""

    def run(self) -> Coroutine[Any, Any, None]:
        """The loop. Called once more after it was cancelled."""
        ...

    async def works(self) -> None:
        """Give it something to do and return when it is done. Called once more, at whatever point it was broken off."""
        ...


class LoopClock:
    """``Clock`` that goes by the running loop."""

    def now(self) -> datetime:
        return datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


def survives(make: Callable[[], Story], *, stride: int = 1) -> int:
    """Returns in how many places the loop was cancelled. ``stride``: for long stories, only every n-th step."""
    step = 1
    while step < MOST_STEPS:
        loop = StepLoop()
        try:
            if not loop.run_until_complete(_cancelled_at(loop, step, make())):
                return (step - 1) // stride
        except BaseException as err:
            err.add_note(f"cancelled at step {step}")
            raise
        finally:
            _clear(loop)
        step += stride
    raise AssertionError(f"the story has more than {MOST_STEPS} steps")


async def _cancelled_at(loop: StepLoop, step: int, story: Story) -> bool:
    """Whether the story was long enough to be cancelled there."""
    for number in range(TIMES):
        running, works = asyncio.create_task(story.run()), asyncio.create_task(story.works())
        loop.cancel_at(loop.steps + step, running)
        await asyncio.wait((running, works), return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            await works
            await _end(running)
            return number > 0
        works.cancel()
        await asyncio.wait((works,))
        assert running.cancelled(), f"the loop was cancelled and ended with {running.exception()!r}"
    running, works = asyncio.create_task(story.run()), asyncio.create_task(story.works())
    await asyncio.wait((running, works), timeout=WORKS_S, return_when=asyncio.FIRST_COMPLETED)
    assert not running.done(), f"the loop ended by itself: {running.exception()!r}"
    assert works.done(), "run again, the loop does not do what it is for"
    await works
    await _end(running)
    return True


def _clear(loop: StepLoop) -> None:
    """What a failed story leaves must not be told of in its place."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left))
    loop.close()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    done, _ = await asyncio.wait((task,), timeout=ENDS_S)
    assert done, "the loop was cancelled and goes on"


class StepLoop(asyncio.SelectorEventLoop):
    """Virtual time that jumps to the next timer when nothing is left to do; a thread's work is done at once."""

    def __init__(self) -> None:
        super().__init__(_Leaping(self))
        self.elapsed_s = 0.0
        self.steps = 0
        self._at = 0
        self._victim: asyncio.Task[None] | None = None

    def cancel_at(self, step: int, victim: asyncio.Task[None]) -> None:
        self._at, self._victim = step, victim

    def time(self) -> float:
        return self.elapsed_s

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        found: asyncio.Future[Any] = self.create_future()

        def work() -> None:
            if found.cancelled():
                return
            try:
                found.set_result(func(*args))
            except Exception as err:  # noqa: BLE001 - whatever it is, whoever waits is told
                found.set_exception(err)

        self.call_soon(work)
        return found

    def _run_once(self) -> None:
        self.steps += 1
        if self.steps == self._at and self._victim is not None:
            self._victim.cancel()
        super()._run_once()  # type: ignore[misc]  # asyncio's own, which has no types


class _Leaping(selectors.SelectSelector):
    """Instead of waiting it lets time pass."""

    def __init__(self, loop: StepLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout is None:
            raise AssertionError("everybody waits for ever")
        if not found and timeout:
            self._loop.elapsed_s += timeout
        return found
