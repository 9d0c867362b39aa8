"""What the leader writes about the database's primary, decided from one reading of the store (pure).

In this order, the first that there is alone: the assignment follows whom Patroni chose, or passes from a file that has
moved; Patroni is told to hand over, in peace; such an order is taken back. Else others get the chance of an heir that
did not take over, and Patroni's failsafe mode is switched on again. What each of these is stands in ``succession``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from morgand.cluster.codec import HostRecord
from morgand.cluster.store import Handoff, Item
from morgand.roles.db import succession
from morgand.roles.db.patroni_keys import ENGINE, Patroni
from morgand.roles.db.spec import SPEC
from morgand.roles.db.succession import Withdrawal
from morgand.scheduler.rank import beats, standing
from morgand.state.hosts import Host, HostState
from morgand.state.roles import Assignment, RolePreference

OUTRANKED_S = 15.0  # a better host takes over once it has had everything, and nobody came or went, for so long
AWAY_S = 600.0  # and for so long while somebody is away: whoever returns meanwhile would meet the handover
STALE_S = 4.0  # who has not taken over for so long will not; Patroni loses 2 s with a dead voter


@dataclass(frozen=True, slots=True)
class PrimaryReading:
    """``request``: to pass the primary from a file. ``written``: at which revision each host's record was.
    ``now``: monotonic seconds."""

    patroni: Patroni
    db: Sequence[Assignment]
    request: Item | None
    records: Sequence[HostRecord]
    written: Mapping[str, int]
    hosts: Sequence[Host]
    preference: RolePreference
    now: float

    @property
    def leaving(self) -> frozenset[str]:
        return frozenset(one.id for one in self.records if one.draining or one.state is HostState.LEFT)

    @property
    def sick(self) -> frozenset[str]:
        return frozenset(one.id for one in self.hosts if one.profile.disk.sick)

    @property
    def lost(self) -> Mapping[str, int]:
        """Hosts that were given up, and at which revision."""
        return {one.id: self.written[one.id] for one in self.records if one.state is HostState.FENCED}


@dataclass(frozen=True, slots=True)
class Outranked:
    """``better`` than the primary's host, while the same hosts were ``unwell`` or new, since then."""

    primary: str
    better: str
    unwell: frozenset[str]
    since: float


@dataclass(frozen=True, slots=True)
class PrimaryState:
    """What is remembered from one look to the next. ``blocked``: what keeps others from taking over, since when."""

    outranked: Outranked | None = None
    blocked: tuple[Withdrawal, float] | None = None


@dataclass(frozen=True, slots=True)
class PrimaryChange:
    """``what`` happens to ``host``, as the log says it, and why. ``quiet``: nobody needs to be told."""

    what: str
    host: str | None
    cause: str
    write: Handoff | Withdrawal
    quiet: bool = False


def decide(seen: PrimaryReading, state: PrimaryState) -> tuple[PrimaryState, tuple[PrimaryChange, ...]]:
    """What is written now, in this order."""
    patroni, db = seen.patroni, seen.db
    passed = succession.follow(patroni, db) or (succession.moved(patroni, db, seen.request) if seen.request else None)
    if passed is not None:
        return state, (PrimaryChange("primary", passed.given[0].host, passed.given[0].why, passed),)
    outranked = _outranked(seen, state.outranked)
    state = replace(state, outranked=outranked)
    leaving, lost = seen.leaving | seen.sick, seen.lost
    asked = succession.relieve(patroni, db, leaving, _better(outranked, seen.now))
    if asked is not None:
        change = PrimaryChange("primary told to hand over", patroni.leader, _why_relieved(seen), Withdrawal(*asked))
        return state, (change,)
    needless = succession.needless(patroni, leaving, lost)
    if needless is not None:
        return state, (PrimaryChange("primary need not hand over", patroni.leader, "a host was lost", needless),)
    state, cleared = _clear(seen, state)
    away = any(one.profile.has_engine(ENGINE) for one in seen.hosts if one.id in lost)
    armed = succession.rearm(patroni, away=away)
    if armed is None:
        return state, cleared
    write = Withdrawal(armed[0], (armed[1],))
    rearmed = PrimaryChange("failsafe mode on", patroni.leader, "it is to stay the primary", write, quiet=True)
    return state, (*cleared, rearmed)


def _why_relieved(seen: PrimaryReading) -> str:
    if seen.patroni.leader in seen.leaving:
        return "its host leaves"
    return "its disk is sick" if seen.patroni.leader in seen.sick else "another host is better"


def _outranked(seen: PrimaryReading, before: Outranked | None) -> Outranked | None:
    """The best synchronous standby, while it is better than the primary's host by the scheduler's margin.

    One with an older program, which may not be able to use the database any more, is not better.
    """
    known = {
        one.id: one for one in seen.hosts
        if one.state is HostState.ALIVE and not one.profile.disk.sick and not one.draining
    }  # fmt: skip
    primary = known.get(seen.patroni.leader or "")
    placed = {one.host for one in seen.db}
    standbys = [known[name] for name in seen.patroni.synchronous if name in known and name in placed]
    if primary is None or not standbys:
        return None
    ranks = {one.id: standing(one, SPEC, seen.preference) for one in (primary, *standbys)}
    standby = max(standbys, key=lambda one: ranks[one.id])
    knows = {one.id: one.schema.post for one in seen.records}
    if not beats(ranks[standby.id], ranks[primary.id]) or knows.get(standby.id, 0) < knows.get(primary.id, 0):
        return None
    unwell = frozenset(one.id for one in seen.hosts if one.state is not HostState.ALIVE or one.new)
    found = Outranked(primary.id, standby.id, unwell, seen.now)
    return before if before is not None and replace(before, since=seen.now) == found else found


def _better(outranked: Outranked | None, now: float) -> str | None:
    """Who has been better for long enough, in peace."""
    if outranked is None:
        return None
    patience_s = AWAY_S if outranked.unwell else OUTRANKED_S
    return outranked.better if now - outranked.since >= patience_s else None


def _clear(seen: PrimaryReading, state: PrimaryState) -> tuple[PrimaryState, tuple[PrimaryChange, ...]]:
    """Let others try when whoever was to take over does not."""
    found = succession.withdrawal(seen.patroni, frozenset(seen.lost))
    if found is None or state.blocked is None or state.blocked[0] != found:
        return replace(state, blocked=(found, seen.now) if found else None), ()
    if seen.now - state.blocked[1] < STALE_S:
        return state, ()
    why = f"nobody has within {STALE_S:g} s"
    return state, (PrimaryChange("others may take the database over", None, why, found),)
