"""The arithmetic of suspicion: how long silence is borne, how long a lease lasts, who is agreed to be dead. Pure.

Times are seconds of this host's clock that goes on in sleep. What makes it safe: a voter that grants a beat does not
vote against its sender for at least ``WIRED_S`` after it came in, and the sender counts the grant from when it sent the
beat, for ``LEASE_S`` only. A sender that hears no majority says so as soon as its lease has lapsed, and counts no grant
of what it sent before: no voter is bound to it any longer. So whoever is voted dead by a majority of the other voters
has lost its lease before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

BEAT_S = 0.1
LEASE_S = 0.7
START_S = 5.0  # for a peer that has never been heard: programs take a while to start
WIRED_S, WIRELESS_S = 1.0, 1.5
SLOW_RTT_S = 0.03  # a link this slow is treated as wireless
STRETCH = 1.3  # how far a link that is measured to be bad may raise the limit
GAPS = 5.0  # times the largest gap of the last minute
DAMPED_MAX_S = 8.0
VOTE_S = 0.6  # a vote made longer ago does not count
WINDOW_S = 60.0  # of the gaps that are remembered


def majority(count: int) -> int:
    return count // 2 + 1


def patience_s(*, wired: bool, rtt_s: float, gap_s: float, flaps: int) -> float:
    """How long a peer may be silent.

    ``gap_s`` is the largest gap between its beats of late, ``flaps`` how often it was given up wrongly of late.
    """
    base = WIRED_S if wired and rtt_s <= SLOW_RTT_S else WIRELESS_S
    measured = min(max(base, GAPS * gap_s), base * STRETCH)
    return measured if not flaps else max(measured, min(measured * 2.0**flaps, DAMPED_MAX_S))


def lease_until(me: str, voters: Collection[str], granted: Mapping[str, float], now: float) -> float:
    """Until when a majority of the voters keeps its promises to this host.

    ``granted``: when the latest beat that each voter granted was sent. Without voters there is no lease.
    """
    times = sorted((now if one == me else granted.get(one, 0.0) for one in voters), reverse=True)
    return times[majority(len(times)) - 1] + LEASE_S if times else 0.0


def agreed(suspect: str, voters: Iterable[str], against: Collection[str]) -> bool:
    """Whether a majority of the voters other than ``suspect`` holds it for dead. With no other voter nobody does."""
    others = set(voters) - {suspect}
    return bool(others) and len(others & set(against)) >= majority(len(others))
