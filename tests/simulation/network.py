"""What becomes of packets: lost, late, twice, or held up by a cut; and how slow the store is."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator

from tests.simulation.story import Story

LONG, LONG_S = 0.03, 6.0  # the share of calls that are under way for long, and how long at most
TWICE = 0.01  # beats that come in two times

Way = tuple[str, str]


class Network:
    """``loss``, ``jitter`` and ``slow`` hold the amounts of the faults that last now: the worst counts."""

    def __init__(self, story: Story, chance: random.Random) -> None:
        self._story, self._chance = story, chance
        self._cut: Counter[Way] = Counter()
        self.loss: list[float] = []
        self.jitter: list[float] = []
        self.slow: list[float] = []

    def cut(self, ways: Iterable[Way]) -> None:
        self._cut.update(ways)

    def join(self, ways: Iterable[Way]) -> None:
        self._cut.subtract(ways)

    def cuts(self) -> str:
        return " ".join(f"{one}>{other}" for (one, other), count in self._cut.items() if count) or "none"

    def parted(self, one: str, other: str) -> bool:
        """Whether they cannot exchange packets."""
        return bool(self._cut[one, other] or self._cut[other, one])

    def beats(self, sender: str, receiver: str) -> Iterator[float]:
        """After how long a beat comes in: never, once or twice."""
        chance = self._chance
        if self._cut[sender, receiver] or (self.loss and chance.random() < max(self.loss)):
            return
        yield self._packet_s()
        if chance.random() < TWICE:
            yield self._packet_s()

    def call_s(self) -> float:
        return self._packet_s() if self._chance.random() > LONG else self._chance.random() * LONG_S

    def store_s(self) -> float:
        low, high = self._story.store_s
        return self._chance.uniform(low, max(high, *self.slow) if self.slow else high)

    def _packet_s(self) -> float:
        return self._chance.random() * (max(self.jitter) if self.jitter else self._story.way_s)
