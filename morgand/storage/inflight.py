"""What is under way on a database: it can be waited for, and it can be ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from morgand.base.aio import wait_within
from morgand.base.errors import Unavailable


class InFlight:
    """The blocks of code that use the database now."""

    def __init__(self) -> None:
        self._limits: set[asyncio.Timeout] = set()
        self._inside = 0
        self._settled = asyncio.Event()
        self._settled.set()

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """One block. Raises Unavailable out of it when it is ended from outside."""
        limit = asyncio.timeout(None)
        self._inside += 1
        self._settled.clear()
        try:
            async with limit:
                self._limits.add(limit)
                try:
                    yield
                finally:
                    self._limits.discard(limit)
        except TimeoutError as err:
            if not limit.expired():
                raise
            raise Unavailable("The database is changing hands.", remedy="Try again in a moment.") from err
        finally:
            self._inside -= 1
            if not self._inside:
                self._settled.set()

    def end(self) -> None:
        """Whatever a block waits for, it waits no longer."""
        if not self._limits:
            return
        now = asyncio.get_running_loop().time()
        for limit in self._limits:
            limit.reschedule(now)
        self._limits.clear()  # each once: a limit that has struck cannot be moved any more

    async def settled(self, within_s: float) -> bool:
        """Wait until nothing is under way."""
        return await wait_within(self._settled, within_s)
