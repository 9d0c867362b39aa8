"""Whether a host counts as there: a decision from what gossip says and what direct probes found. Pure.

Gossip alone never fences (law 1), nor does one bad link: a host is given up only when the others' gossip has given it
up too. Whoever decides doubts itself first when most hosts look dead at once (law 10).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from morgand.cluster.codec import HostRecord
from morgand.state import HostState, MemberStatus

SILENT_S = 1.5  # without an answer for this long a host is suspect
DOUBT_S = 10.0  # how long most hosts must be silent at once before that is believed


@dataclass(frozen=True, slots=True)
class Sight:
    """What this host sees of another."""

    gossip: MemberStatus | None  # None: gossip does not know it
    silent_s: float  # since the last answered probe


def verdict(state: HostState, sight: Sight) -> HostState:
    """The state a host should be in. One that left by itself comes back by itself."""
    if state is HostState.LEFT:
        return state
    if sight.silent_s < SILENT_S:
        return HostState.ALIVE
    if sight.gossip is MemberStatus.ALIVE:
        return HostState.FENCED if state is HostState.FENCED else HostState.SUSPECT
    return HostState.FENCED


def changes(records: Sequence[HostRecord], sights: Mapping[str, Sight], me: str) -> list[HostRecord]:
    """The records that should be written anew, as seen by ``me``, who is there in any case."""
    others = [one for one in records if one.id != me]
    silent = [sight.silent_s for one in others if (sight := sights.get(one.id)) and sight.silent_s >= SILENT_S]
    most = len(others) > 2 and len(silent) * 2 > len(others)
    doubtful = most and min(silent) < DOUBT_S
    found = []
    for one in records:
        state = HostState.ALIVE if one.id == me else one.state
        if one.id != me and one.id in sights:
            state = verdict(one.state, sights[one.id])
            if doubtful and state is HostState.FENCED and one.state is not HostState.FENCED:
                state = HostState.SUSPECT
        if state is not one.state:
            found.append(replace(one, state=state))
    return found
