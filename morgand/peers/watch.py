"""Whether a host that calls wait for is still there.

A slow model may take as long as it needs; a host that is frozen or gone must not. So while any call waits for a host it
is asked for a sign of life, once for all of them, and when it owes two in a row every waiting call ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from morgand.base.clock import Clock

ALIVE_S = 0.5
PING_EVERY_S = 0.5
MISSES = 2
STOOD_STILL_S = 0.25  # a ping this much over its deadline was held up on this host


def misses_after(misses: int, *, answered: bool, took_s: float) -> int:
    """Signs of life missed in a row after one more ping. Whoever stood still itself condemns nobody."""
    if answered:
        return 0
    return misses if took_s > ALIVE_S + STOOD_STILL_S else misses + 1


class Watch:
    """On one host; ``ping`` says within ``ALIVE_S`` whether it answers. It asks only while somebody waits."""

    def __init__(self, host: str, ping: Callable[[], Awaitable[bool]], clock: Clock) -> None:
        self._host = host
        self._ping = ping
        self._clock = clock
        self._waiting: set[asyncio.Future[str]] = set()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def waiting(self) -> Iterator[asyncio.Future[str]]:
        """For the time of the block: a future that gets the reason, in words, when waiting has become vain."""
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.add(lost)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"watch-{self._host}")
        try:
            yield lost
        finally:
            self._waiting.discard(lost)
            lost.cancel()

    def give_up(self, reason: str) -> None:
        """End every waiting call."""
        for lost in self._waiting:
            if not lost.done():
                lost.set_result(reason)

    async def close(self) -> None:
        self.give_up(f"The connection to host {self._host} was closed.")
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        misses = 0
        pause_s = PING_EVERY_S
        while True:
            await self._clock.sleep(pause_s)
            if not self._waiting:
                return
            began_s = self._clock.monotonic()
            answered = await self._ping()
            took_s = self._clock.monotonic() - began_s
            misses = misses_after(misses, answered=answered, took_s=took_s)
            if misses >= MISSES:
                self.give_up(f"Host {self._host} does not answer any more.")
                misses = 0
            pause_s = max(0.0, PING_EVERY_S - took_s)
