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


class Standing(StrEnum):
    """Whether the machine is here, or what it leaves for."""

    HERE = "here"
    SLEEPING = "sleeping"
    GOING_DOWN = "going down"


@dataclass(frozen=True)
class PowerStep:
    """How the machine stands afterwards, and what is done, in this order."""

    then: Standing
    acts: tuple[PowerAction, ...] = ()


_LEAVE = (PowerAction.HAND_OVER, PowerAction.RELEASE)
_BACK = PowerStep(Standing.HERE, (PowerAction.TAKE, PowerAction.TELL_BACK))

STEPS: Mapping[tuple[Standing, PowerNews], PowerStep] = {
    (Standing.HERE, PowerNews.SLEEPS): PowerStep(Standing.SLEEPING, _LEAVE),
    (Standing.HERE, PowerNews.GOES_DOWN): PowerStep(Standing.GOING_DOWN, _LEAVE),
    (Standing.HERE, PowerNews.STAYS): PowerStep(Standing.HERE, (PowerAction.TAKE,)),
    (Standing.HERE, PowerNews.SILENT): PowerStep(Standing.HERE, (PowerAction.RELEASE,)),
    # said again, by a signal and by a property that was read meanwhile: what is handed over is not begun anew
    (Standing.SLEEPING, PowerNews.SLEEPS): PowerStep(Standing.SLEEPING),
    # a sleep may turn into a shutdown
    (Standing.SLEEPING, PowerNews.GOES_DOWN): PowerStep(Standing.GOING_DOWN, _LEAVE),
    (Standing.SLEEPING, PowerNews.STAYS): _BACK,
    (Standing.GOING_DOWN, PowerNews.SLEEPS): PowerStep(Standing.GOING_DOWN),
    (Standing.GOING_DOWN, PowerNews.GOES_DOWN): PowerStep(Standing.GOING_DOWN),
    (Standing.GOING_DOWN, PowerNews.STAYS): _BACK,
    # logind ends on the way down, too
    (Standing.SLEEPING, PowerNews.SILENT): PowerStep(Standing.SLEEPING, (PowerAction.RELEASE,)),
    (Standing.GOING_DOWN, PowerNews.SILENT): PowerStep(Standing.GOING_DOWN, (PowerAction.RELEASE,)),
}


def hand_over_s(delay_max_us: int) -> float:
    """How long handing over may take when the machine waits for ``delay_max_us``."""
    return min(delay_max_us / 1e6 * SHARE, LONGEST_S)
