"""A port that is there or not, as a test wants it: what stands behind it is real."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from morgand.base.errors import NotHereNow


class Faults:
    """``always``: what calls of a method meet, by ``Port.method``; ``next``: what its next calls meet, in order."""

    def __init__(self) -> None:
        self.always: dict[str, NotHereNow] = {}
        self.next: dict[str, deque[NotHereNow]] = {}
        self.met = 0

    def meet(self, method: str) -> None:
        found = self.always.get(method)
        if found is None and self.next.get(method):
            found = self.next[method].popleft()
        if found is not None:
            self.met += 1
            raise found


def port(protocol: Any, real: Any, faults: Faults) -> Any:
    """The port ``protocol``, answered by ``real`` wherever no fault is met."""
    return _Port(protocol.__name__, real, faults)


class _Port:
    def __init__(self, name: str, real: Any, faults: Faults) -> None:
        self._name, self._real, self._faults = name, real, faults

    def __getattr__(self, method: str) -> Callable[..., Any]:
        real, name = getattr(self._real, method), f"{self._name}.{method}"

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._faults.meet(name)
            return await real(*args, **kwargs)

        async def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            self._faults.meet(name)
            async for item in real(*args, **kwargs):
                yield item

        @asynccontextmanager
        async def block(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            self._faults.meet(name)
            async with real(*args, **kwargs) as found:
                yield found

        if inspect.isasyncgenfunction(real):
            return stream
        return call if inspect.iscoroutinefunction(real) else block
