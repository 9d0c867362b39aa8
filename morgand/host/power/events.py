"""What a machine says of its own sleep and shutdown.

A machine that announces nothing, as most containers, is no fault. Other systems' hooks belong behind ``PowerEvents``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Leaving:
    """The machine is about to sleep or to go down, and waits for ``within_s``. It may be told twice."""

    kind: Literal["sleep", "shutdown"]
    within_s: float


@dataclass(frozen=True)
class Back:
    """The machine is awake again, or stays up after all."""


Tell = Callable[[Leaving | Back], Awaitable[None]]


class PowerEvents(Protocol):
    """What this machine says of its own sleep and shutdown."""

    async def run(self, tell: Tell) -> None:
        """Tell until cancelled; return at once where the machine announces nothing.

        The machine waits while ``tell`` handles Leaving. It is cancelled when its time is over, and before the next.
        """
