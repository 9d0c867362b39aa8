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
    return _Port(protocol, real, faults)


class _Port:
    def __init__(self, protocol: type, real: Any, faults: Faults) -> None:
        self._protocol, self._real, self._faults = protocol, real, faults

    def __getattr__(self, method: str) -> Callable[..., Any]:
        real = getattr(self._real, method)
        said = next(one for one in self._protocol.__mro__ if method in vars(one))  # the port that has the method
        name = f"{said.__name__}.{method}"

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._faults.meet(name)
            return await real(*args, **kwargs)

        async def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            self._faults.meet(name)
            async for item in real(*args, **kwargs):
                yield item

        @asynccontextmanager
        async def held(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            self._faults.meet(name)
            async with real(*args, **kwargs) as found:
                yield found

        if inspect.isasyncgenfunction(getattr(real, "__wrapped__", None)):
            return held
        return stream if inspect.isasyncgenfunction(real) else call
