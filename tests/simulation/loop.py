"""An asyncio loop in virtual time: it runs only when it is pumped, and never by itself.

Every simulated host has one of its own, so that a host can be frozen in the middle of whatever it does, and gone with
all that it had under way.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

Wake = Callable[[float], None]


class Chore(asyncio.Task[Any]):
    """A task whose place in a set does not depend on where it lies in memory: a seed plays the same story again."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class HostLoop(asyncio.AbstractEventLoop):
    """``now`` tells the time, ``wake`` is told when the next timer is due, ``failed`` of whatever nobody caught."""

    def __init__(self, now: Callable[[], float], wake: Wake, failed: Callable[[str], None]) -> None:
        self._now, self._wake, self._failed = now, wake, failed
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = 0
        self._woken_at = float("inf")
        self._roots: dict[int, Chore] = {}

    def pump(self) -> None:
        """Everything that is due, and what follows from it."""
        ready, timers, now = self._ready, self._timers, self._now()
        events._set_running_loop(self)
        try:
            while True:
                while timers and timers[0][0] <= now:
                    ready.append(heapq.heappop(timers)[2])
                if not ready:
                    break
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            events._set_running_loop(None)
        if now >= self._woken_at:
            self._woken_at = float("inf")
        self._book()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """A task that nobody waits for; when it ends with an error, that is a failure of the whole story."""
        task = self.create_task(work, name=name)
        number = self._numbers
        self._roots[number] = task
        task.add_done_callback(lambda ended: self._ended(number, ended))

    def end(self) -> None:
        """Cancel whatever is under way and let it finish."""
        while self._roots:
            for task in self._roots.values():
                task.cancel()
            self.pump()
        self._timers.clear()

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        del self._roots[number]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(f"{task.get_name()} ended with {error!r}")

    def _book(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if timers and timers[0][0] < self._woken_at:
            self._woken_at = timers[0][0]
            self._wake(self._woken_at)

    # --- what asyncio asks of a loop -------------------------------------------------------------

    def time(self) -> float:
        return self._now()

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        self._numbers += 1
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, self._numbers, handle))
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now() + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> Chore:
        self._numbers += 1
        Chore.number = self._numbers
        task = Chore(coro, loop=self, name=name, context=context)
        task.number = self._numbers
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and "future" not in context:  # what a cancelled task did not ask for is no failure
            self._failed(f"{context.get('message')}: {error!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is left where it is, and does nothing when it is due."""
