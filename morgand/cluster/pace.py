"""How long a voter's answer may take, and when the next voter is asked: as long as answers took of late.

With fixed times a store that is merely slow, on a disk or a processor that has too much to do, would be asked the same
again and again, and would answer nobody any more. Source: RFC 6298 (a timeout from smoothed times and their spread,
doubled while nothing is answered).
"""

from __future__ import annotations

ALPHA, BETA, SPREADS = 1 / 8, 1 / 4, 4
SHORTEST_S, LONGEST_S = 0.4, 2.0
STAGGER_S, STAGGERS = 0.1, 4  # the next voter is asked after a quarter of the deadline


class Pace:
    """One for a client: dead voters give no answers, and so do not count."""

    def __init__(self) -> None:
        self._smoothed_s: float | None = None
        self._spread_s = 0.0
        self._missed = 0

    @property
    def deadline_s(self) -> float:
        """For one answer of one voter."""
        expected = 0.0 if self._smoothed_s is None else self._smoothed_s + SPREADS * self._spread_s
        return float(min(max(expected, SHORTEST_S) * 2**self._missed, LONGEST_S))

    @property
    def stagger_s(self) -> float:
        """Until the next voter is asked the same."""
        return max(self.deadline_s / STAGGERS, STAGGER_S)

    def took(self, seconds: float) -> None:
        """A voter has answered."""
        self._missed = 0
        if self._smoothed_s is None:
            self._smoothed_s, self._spread_s = seconds, seconds / 2
        else:
            self._spread_s += BETA * (abs(self._smoothed_s - seconds) - self._spread_s)
            self._smoothed_s += ALPHA * (seconds - self._smoothed_s)

    def missed(self) -> None:
        """Nobody has answered, for longer than an election takes."""
        if self.deadline_s < LONGEST_S:
            self._missed += 1
