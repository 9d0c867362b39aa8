"""The next step towards the right voters of etcd, and away from a leader of etcd on the wrong host. Pure.

One step at a time, each from what is there now: whoever leads next goes on from wherever the last one stopped.

There are 1, 3 or 5 voters. Whoever is new learns first, and comes before another one goes; but a voter that is down
goes before its successor comes, since etcd takes nobody meanwhile. Nobody goes unless the others are a working
majority.

Two voters are the one number that is worse than one less: the loss of either stops everything. So one becomes two only
when a third host waits to come, and the third comes at once, as a voter: etcd 3.4 has room for one learner, and while
it starts and learns, the other two can decide with it as well as without it. If it does not start it goes again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from morgand.cluster.voters import (
    Add,
    Forget,
    MoveLeader,
    Note,
    Promote,
    Readdress,
    Remove,
    Step,
    VoterCandidate,
    VoterPatience,
    VoterRecord,
    VoterState,
    VotingMember,
)
from morgand.state.hosts import Duty, HostState

FEW, MANY = 3, 5  # voters; one where there are not even a few hosts: two voters are worse than one
AWAY = (HostState.FENCED, HostState.LEFT)
PATIENCE = VoterPatience()


@dataclass(frozen=True, slots=True)
class _Aim:
    """How many voters there are to be, which of them stay, and who may come, the best first."""

    size: int
    staying: Sequence[VotingMember]
    coming: Sequence[VoterCandidate]


def next_step(
    candidates: Sequence[VoterCandidate], seats: Sequence[VotingMember], records: Mapping[str, VoterRecord], *,
    leader: str, may_move: bool = True, patience: VoterPatience = PATIENCE,
) -> Step | None:  # fmt: skip
    """What to do now; None when everything is as it should be, or has to be waited for.

    ``leader`` is the host that leads the cluster. Whoever does not even know that one knows too little to decide.
    """
    known = {one.host.id: one for one in candidates}
    if leader not in known:
        return None
    aim = _aim(candidates, known, seats, patience)
    step = (
        _bookkeeping(known, seats, records) or _learner(known, seats, aim, patience)
        or _voters(known, seats, records, aim, patience) or _leftover(seats, records)
    )  # fmt: skip
    if not may_move or not (step is None or (isinstance(step, Remove) and step.seat.leads)):
        return step
    return _move(known, seats, aim, leader, patience, removed=step is not None) or step


def ranked(candidates: Sequence[VoterCandidate]) -> list[VoterCandidate]:
    """The best first: a witness, which is there for that; wired, always on, no laptop, fast to write (within a factor
    of two), not the largest GPU."""
    largest = max((one.host.profile.vram_mb for one in candidates), default=0)

    def key(one: VoterCandidate) -> tuple[bool | int | str, ...]:
        profile = one.host.profile
        return (
            not profile.witness, not profile.network.wired, profile.duty is not Duty.ALWAYS, profile.laptop,
            int(profile.disk.fsync_ms).bit_length(), 0 < largest == profile.vram_mb, one.host.id,
        )  # fmt: skip

    return sorted(candidates, key=key)


def _bookkeeping(
    known: Mapping[str, VoterCandidate], seats: Sequence[VotingMember], records: Mapping[str, VoterRecord]
) -> Step | None:
    """Records say what etcd says, and etcd knows every host by its present address."""
    for seat in seats:
        candidate = known.get(seat.host or "")
        if candidate is None:
            continue
        record = _record(candidate, seat, records.get(candidate.host.id))
        if seat.peer_url != candidate.peer_url and candidate.host.state is HostState.ALIVE:
            return Readdress(seat, record)
        if records.get(record.host) != record and seat.peer_url == candidate.peer_url:
            return Note(record)
    seated = {seat.host for seat in seats}
    for host, record in records.items():
        if host not in seated and (record.state is not VoterState.WANTED or host not in known):
            return Forget(host)
    return None


def _leftover(seats: Sequence[VotingMember], records: Mapping[str, VoterRecord]) -> Step | None:
    """A host that was wanted and never became a member."""
    seated = {seat.host for seat in seats}
    return next((Forget(host) for host in records if host not in seated), None)


def _aim(
    candidates: Sequence[VoterCandidate],
    known: Mapping[str, VoterCandidate],
    seats: Sequence[VotingMember],
    patience: VoterPatience,
) -> _Aim:
    """Five voters from hosts that are fit for it, else three, else one.

    A host that is only suspected counts while something is underway: a moment's silence undoes nothing.
    """
    voters = [seat for seat in seats if not seat.learner]
    staying = [seat for seat in voters if not _gone(known, seat)]
    seated, learning = ({seat.host for seat in seats if seat.learner is learner} for learner in (False, True))
    underway = bool(learning) or len(voters) % 2 == 0
    there = (HostState.ALIVE, HostState.SUSPECT) if underway else (HostState.ALIVE,)
    free = ranked([one for one in candidates if one.able and one.host.state in there and one.host.id not in seated])
    free.sort(key=lambda one: one.host.id not in learning)
    lasting = [seat for seat in staying if known[seat.host or ""].lasting]
    fit = [one for one in free if one.lasting]
    if len(lasting) + len(fit) >= MANY:
        return _Aim(MANY, lasting, fit)
    coming = _with_a_steady_majority(free, [known[seat.host or ""] for seat in staying if seat.ill_s < patience.dead_s])
    return _Aim(FEW if len(staying) + len(coming) >= FEW else 1, staying, coming)


def _with_a_steady_majority(free: Sequence[VoterCandidate], staying: Sequence[VoterCandidate]) -> list[VoterCandidate]:
    """Those of the free hosts that may become one of three: hosts that are on only sometimes stay a minority."""
    part_time = sum(one.host.profile.duty is Duty.SOMETIMES for one in staying)
    found: list[VoterCandidate] = []
    for one in free:
        part_time += one.host.profile.duty is Duty.SOMETIMES
        if one.host.profile.duty is Duty.ALWAYS or part_time <= (FEW - 1) // 2:
            found.append(one)
    return found


def _learner(
    known: Mapping[str, VoterCandidate], seats: Sequence[VotingMember], aim: _Aim, patience: VoterPatience
) -> Step | None:
    """etcd has room for one learner at a time, so it is dealt with before the voters.

    etcd 3.4 itself would let one vote that never started: healthy means that it answered, and as this member.
    """
    count = sum(not seat.learner for seat in seats)
    even = count % 2 == 0
    for seat in (seat for seat in seats if seat.learner):
        one = known.get(seat.host or "")
        if one is None or not one.able or one.host.state in AWAY:
            return Remove(seat, "it is gone before it voted")
        if seat.ill_s >= patience.stuck_s:
            return Remove(seat, "it gets no further", failed=True)
        if len(aim.staying) >= aim.size or one not in aim.coming:
            return Remove(seat, "it is needed no longer")
        next_waits = count + 1 >= aim.size or any(_there(other) for other in aim.coming if other is not one)
        if seat.healthy and (even or seat.steady_s >= patience.steady_s) and _there(one) and next_waits:
            return Promote(replace(_record(one, seat), state=VoterState.VOTER))
    return None


def _voters(
    known: Mapping[str, VoterCandidate], seats: Sequence[VotingMember], records: Mapping[str, VoterRecord], aim: _Aim,
    patience: VoterPatience,
) -> Step | None:  # fmt: skip
    if any(seat.learner for seat in seats):
        return None
    return (
        _not_started(known, seats, records, patience) or _without_the_dead(known, seats, aim, patience)
        or _more(seats, aim) or _fewer(known, seats, aim)
    )  # fmt: skip


def _not_started(
    known: Mapping[str, VoterCandidate], voters: Sequence[VotingMember], records: Mapping[str, VoterRecord],
    patience: VoterPatience,
) -> Step | None:  # fmt: skip
    """A voter that came without having learned, and has not been well yet."""
    for seat in voters:
        record = records.get(seat.host or "")
        if seat.healthy or record is None or record.state is VoterState.VOTER or not _bearable(voters, seat):
            continue
        if seat.ill_s >= patience.start_s:
            return Remove(seat, "it does not start", failed=True)
        if _away(known, seat):
            return Remove(seat, "it is gone before it voted")
    return None


def _without_the_dead(
    known: Mapping[str, VoterCandidate], voters: Sequence[VotingMember], aim: _Aim, patience: VoterPatience
) -> Step | None:
    """A voter that is down goes before its successor comes; without a successor it keeps its seat.

    All who stay must be well by then, or the successor would not be let in.
    """
    for seat in voters:
        if not seat.healthy and _gone(known, seat) and _bearable(voters, seat):
            return Remove(seat, "its host leaves")
    even = len(voters) % 2 == 0
    dead = [seat for seat in voters if seat.ill_s >= patience.dead_s and (even or _away(known, seat))]
    if not (aim.coming or even) or not all(seat.healthy or seat in dead for seat in voters):
        return None
    return next((Remove(seat, "it is down for too long") for seat in dead if _bearable(voters, seat)), None)


def _more(voters: Sequence[VotingMember], aim: _Aim) -> Step | None:
    """From an even number on as a voter at once."""
    one = next((one for one in aim.coming if _there(one)), None)
    short = len(aim.staying) < aim.size and len(voters) <= aim.size
    if one is None or not short or not all(seat.healthy for seat in voters):
        return None
    record = VoterRecord(one.host.id, one.peer_url, one.client_url, VoterState.WANTED)
    return Add(record, f"voters wanted: {aim.size}", votes=len(voters) % 2 == 0)


def _fewer(known: Mapping[str, VoterCandidate], voters: Sequence[VotingMember], aim: _Aim) -> Step | None:
    """Those that do not stay; when there are none, those that are not well, then the worst."""
    count = len(voters)
    if count <= aim.size:
        return None
    worst_first = _best_first(known, [seat for seat in voters if seat not in aim.staying] or voters)[::-1]
    worst_first.sort(key=lambda seat: seat.healthy)
    seat = next((seat for seat in worst_first if _bearable(voters, seat)), None)
    if seat is None:
        return None
    if _gone(known, seat):
        return Remove(seat, "its host leaves")
    if seat not in aim.staying:
        return Remove(seat, "five others are wired and always on")
    if count % 2 == 0:
        return Remove(seat, f"{count} voters bear no more losses than {count - 1}")
    return Remove(seat, "five voters have to be wired and always on")


def _move(
    known: Mapping[str, VoterCandidate],
    seats: Sequence[VotingMember],
    aim: _Aim,
    leader: str,
    patience: VoterPatience,
    *,
    removed: bool,
) -> Step | None:
    """Off a host that goes. Where there are enough voters, off those whose loss would cost more than etcd's leader:
    the cluster's leader, and the database's primary.
    """
    held = next((seat for seat in seats if seat.leads), None)
    if held is None:
        return None
    voters = [seat for seat in seats if not seat.learner]
    heirs = [seat for seat in _best_first(known, voters) if seat != held and _may_lead(known, seat)]
    enduring = _best_first(known, aim.staying)[: aim.size]
    burdened = {leader} | {one.host.id for one in known.values() if one.primary}
    heirs.sort(key=lambda seat: (seat not in enduring, seat.host in burdened))
    if removed or _gone(known, held) or _away(known, held):
        return MoveLeader(held, heirs[0], "its host is not to lead etcd") if heirs else None
    steady = [seat for seat in heirs if seat.host not in burdened and seat.steady_s >= patience.heir_s]
    if held.host in burdened and len(voters) >= FEW and steady:
        return MoveLeader(held, steady[0], "its host has enough to lose")
    return None


def _there(one: VoterCandidate) -> bool:
    return one.host.state is HostState.ALIVE


def _may_lead(known: Mapping[str, VoterCandidate], seat: VotingMember) -> bool:
    one = known.get(seat.host or "")
    return one is not None and seat.healthy and not one.leaving and one.host.state is HostState.ALIVE


def _gone(known: Mapping[str, VoterCandidate], seat: VotingMember) -> bool:
    one = known.get(seat.host or "")
    return one is None or one.leaving


def _away(known: Mapping[str, VoterCandidate], seat: VotingMember) -> bool:
    one = known.get(seat.host or "")
    return one is None or one.host.state in AWAY


def _best_first(known: Mapping[str, VoterCandidate], seats: Sequence[VotingMember]) -> list[VotingMember]:
    rank = {one.host.id: number for number, one in enumerate(ranked(list(known.values())))}
    return sorted(seats, key=lambda seat: rank.get(seat.host or "", len(rank)))


def _bearable(voters: Sequence[VotingMember], without: VotingMember) -> bool:
    """Whether the others are a working majority of themselves."""
    rest = [seat for seat in voters if seat != without]
    return bool(rest) and sum(seat.healthy for seat in rest) * 2 > len(rest)


def _record(candidate: VoterCandidate, seat: VotingMember, before: VoterRecord | None = None) -> VoterRecord:
    """Whoever votes from the beginning is counted on once it has been well."""
    coming = before is not None and before.state is not VoterState.VOTER and not seat.healthy
    state = VoterState.LEARNER if seat.learner or coming else VoterState.VOTER
    return VoterRecord(candidate.host.id, candidate.peer_url, candidate.client_url, state, seat.member)
