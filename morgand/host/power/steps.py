"""What is done about a machine's news, and how long that may take: a table and a little arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

SHARE = 0.8  # of the time the machine waits; the rest is for closing the lock and for a busy machine
LONGEST_S = 60.0


class PowerNews(StrEnum):
    """What logind says of the machine."""

    SLEEPS = "sleep"
    GOES_DOWN = "shutdown"
    STAYS = "stays"  # it is awake again, or was not told to leave
    SILENT = "silent"  # logind is not there


class PowerAction(StrEnum):
    HAND_OVER = "hand over"
    RELEASE = "release"
    TAKE = "take"
    TELL_BACK = "tell back"


@dataclass(frozen=True)
class PowerStep:
    """Whether the machine counts as away afterwards, and what is done, in this order."""

    away: bool
    acts: tuple[PowerAction, ...]


_LEAVE = PowerStep(away=True, acts=(PowerAction.HAND_OVER, PowerAction.RELEASE))
STEPS: Mapping[tuple[bool, PowerNews], PowerStep] = {
    (False, PowerNews.SLEEPS): _LEAVE,
    (False, PowerNews.GOES_DOWN): _LEAVE,
    (False, PowerNews.STAYS): PowerStep(away=False, acts=(PowerAction.TAKE,)),
    (False, PowerNews.SILENT): PowerStep(away=False, acts=(PowerAction.RELEASE,)),
    # a sleep may turn into a shutdown
    (True, PowerNews.SLEEPS): _LEAVE,
    (True, PowerNews.GOES_DOWN): _LEAVE,
    (True, PowerNews.STAYS): PowerStep(away=False, acts=(PowerAction.TAKE, PowerAction.TELL_BACK)),
    # logind ends on the way down, too
    (True, PowerNews.SILENT): PowerStep(away=True, acts=(PowerAction.RELEASE,)),
}


def hand_over_s(delay_max_us: int) -> float:
    """How long handing over may take when the machine waits for ``delay_max_us``."""
    return min(delay_max_us / 1e6 * SHARE, LONGEST_S)
