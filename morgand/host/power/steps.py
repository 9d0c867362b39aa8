"""What is done about a machine's news, and how long that may take: a table and a little arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

SHARE = 0.8  # of the time the machine waits; the rest is for closing the lock and for a busy machine
LONGEST_S = 60.0


class News(StrEnum):
    """What logind says of the machine."""

    SLEEPS = "sleep"
    GOES_DOWN = "shutdown"
    STAYS = "stays"  # it is awake again, or was not told to leave
    SILENT = "silent"  # logind is not there


class Act(StrEnum):
    HAND_OVER = "hand over"
    RELEASE = "release"
    TAKE = "take"
    TELL_BACK = "tell back"


@dataclass(frozen=True)
class Step:
    """Whether the machine counts as away afterwards, and what is done, in this order."""

    away: bool
    acts: tuple[Act, ...]


_LEAVE = Step(away=True, acts=(Act.HAND_OVER, Act.RELEASE))
STEPS: Mapping[tuple[bool, News], Step] = {
    (False, News.SLEEPS): _LEAVE,
    (False, News.GOES_DOWN): _LEAVE,
    (False, News.STAYS): Step(away=False, acts=(Act.TAKE,)),
    (False, News.SILENT): Step(away=False, acts=(Act.RELEASE,)),
    # a sleep may turn into a shutdown
    (True, News.SLEEPS): _LEAVE,
    (True, News.GOES_DOWN): _LEAVE,
    (True, News.STAYS): Step(away=False, acts=(Act.TAKE, Act.TELL_BACK)),
    # logind ends on the way down, too
    (True, News.SILENT): Step(away=True, acts=(Act.RELEASE,)),
}


def hand_over_s(delay_max_us: int) -> float:
    """How long handing over may take when the machine waits for ``delay_max_us``."""
    return min(delay_max_us / 1e6 * SHARE, LONGEST_S)
