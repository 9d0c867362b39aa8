"""Whether a host counts as there: a decision from what the detector sees. Pure.

One bad link fences nobody: the detector calls a host dead only when a majority of the other voters agrees. Whoever
decides doubts itself first when most hosts look dead at once (law 10).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from morgand.cluster.codec import HostRecord
from morgand.state.hosts import HostState, PeerHealth

QUARANTINE_S = 3.0  # a host that was fenced is well for so long before it is welcome
DOUBT_S = 3.0  # how long most hosts must be silent at once before that is believed


def verdict(state: HostState, sight: PeerHealth) -> HostState:
    """The state a host should be in. One that left by itself comes back by itself."""
    if state is HostState.LEFT:
        return state
    if state is HostState.FENCED:
        return HostState.ALIVE if sight.well_s >= QUARANTINE_S else HostState.FENCED
    if sight.dead:
        return HostState.FENCED
    return HostState.SUSPECT if sight.suspect else HostState.ALIVE


def changes(
    records: Sequence[HostRecord], sights: Mapping[str, PeerHealth], me: str, now: datetime
) -> list[HostRecord]:  # fmt: skip
    """The records that should be written anew, as seen by ``me``, who is there in any case."""
    others = [one for one in records if one.id != me]
    silent = [sight.silent_s for one in others if (sight := sights.get(one.id)) and sight.dead]
    doubtful = len(others) > 2 and len(silent) * 2 > len(others) and min(silent) < DOUBT_S
    found = []
    for one in records:
        state = one.state
        if one.id == me:
            state = HostState.ALIVE
        elif one.id in sights:
            state = verdict(one.state, sights[one.id])
            if doubtful and state is HostState.FENCED and one.state is not HostState.FENCED:
                state = HostState.SUSPECT
        elif not one.peer and one.state in (HostState.ALIVE, HostState.SUSPECT):
            state = HostState.FENCED  # it has no address to be heard from: it never was a member
        if state is not one.state:
            back = one.state is HostState.FENCED
            found.append(replace(one, state=state, returned=now if back else one.returned))
    return found
