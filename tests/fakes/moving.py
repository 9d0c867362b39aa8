"""A history over a real database that can be away: calls fail, hang, or are done without the caller being told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from morgand.base.errors import MorganError, Unavailable
from morgand.state.ports import History


class Moving:
    """Set ``error`` to have calls fail, ``hang`` to have them wait, ``lost`` to have stores done and then fail."""

    def __init__(self, history: History) -> None:
        self._history = history
        self.error: MorganError | None = None
        self.hang: asyncio.Event | None = None
        self.lost = False
        self.calls: list[str] = []

    @property
    def port(self) -> History:
        return cast("History", self)

    def leave(self) -> None:
        self.error = Unavailable("The database cannot be reached.")

    def come_back(self) -> None:
        self.error = None

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(method)
            if self.hang is not None:
                await self.hang.wait()
            if self.error is not None and not self.lost:
                raise self.error
            found = await getattr(self._history, method)(*args, **kwargs)
            if self.error is not None:
                raise self.error
            return found

        return call
