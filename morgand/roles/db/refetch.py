"""When a standby throws its copy of the database away and fetches a new one (pure).

A primary that was a copy itself has neither the log nor the history of the time before it was made: whoever asks it
for that follows nobody, for ever. Never while somebody may count on what is in the copy, nor onto a disk that is full
or fails: the old one would be gone, and no new one there.
"""

from __future__ import annotations

from dataclasses import dataclass

STUCK_S = 25.0  # longer than Patroni's ttl: it has not followed one that is there, and not one that just died
REFUSED_S = 6.0  # a standby that does not follow one that leads for so long asks it for what it no longer has


@dataclass(frozen=True, slots=True)
class CopyReading:
    """``counted_on``: this host's copy may have to be the primary, or nobody is. ``making``: a copy is on its way.
    ``sick``: the disk is no place for one. ``led``: the primary says of itself at this moment that it is; None where
    it was not asked, or did not answer."""

    behind_s: float
    counted_on: bool
    making: bool
    sick: bool
    led: bool | None
    now: float


def doubtful(behind_s: float, *, ready: bool) -> bool:
    """Whether there is anything to be read and judged."""
    return not ready or is_refused(behind_s)


def is_refused(behind_s: float) -> bool:
    return behind_s >= REFUSED_S


def refetch(seen: CopyReading, since: float | None) -> tuple[float | None, bool]:
    """``since``: when the copy was first seen not to follow (monotonic seconds), or None; that as it is now, and
    whether it goes."""
    if seen.counted_on or seen.making or seen.sick:
        return None, False
    since = seen.now if since is None else since
    if is_refused(seen.behind_s):
        if seen.led is None:
            return since, False
        if seen.led:
            return since, True
    return since, seen.now - since >= STUCK_S
