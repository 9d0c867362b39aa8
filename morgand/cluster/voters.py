"""Which hosts vote in etcd, and the next step on the way there. Pure.

One step at a time, each from what is there now: whoever leads next goes on from wherever the last one stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from morgand.state import Duty, Host, HostState

CLIENT_PORT, PEER_PORT = 2, 3  # after a host's first port
STEADY_S = 10.0  # a learner is well for so long before it votes
VOTERS = 3  # as soon as so many hosts are suitable; one before: two voters are worse than one


class VoterState(StrEnum):
    WANTED = "wanted"  # to become a member of etcd
    LEARNER = "learner"
    VOTER = "voter"


@dataclass(frozen=True, slots=True)
class VoterRecord:
    """What stands under ``/voters/HOST``. From LEARNER on the host runs etcd, as the member named here."""

    host: str
    peer_url: str
    client_url: str
    state: VoterState
    member: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A host of the cluster, and the first of its ports."""

    host: Host
    port: int

    @property
    def client_url(self) -> str:
        return f"https://{self.host.address}:{self.port + CLIENT_PORT}"

    @property
    def peer_url(self) -> str:
        return f"https://{self.host.address}:{self.port + PEER_PORT}"

    @property
    def leaving(self) -> bool:
        """A host that is only off for a while keeps its seat: an update or a night is no reason to change voters."""
        return self.host.draining


@dataclass(frozen=True, slots=True)
class Seat:
    """A member of etcd as it is. ``steady_s``: for how long it has been started, well and caught up without a break."""

    member: str
    host: str | None  # None: no host that is known
    peer_url: str
    learner: bool = False
    healthy: bool = True
    steady_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Note:
    """Write down what is the case."""

    record: VoterRecord


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete the record of a host that is no member: it ends its etcd."""

    host: str


@dataclass(frozen=True, slots=True)
class Add:
    """Make a host a learner."""

    record: VoterRecord


@dataclass(frozen=True, slots=True)
class Promote:
    record: VoterRecord


@dataclass(frozen=True, slots=True)
class Remove:
    seat: Seat
    why: str


@dataclass(frozen=True, slots=True)
class Readdress:
    """A host has another address than the one etcd knows."""

    seat: Seat
    record: VoterRecord


Step = Note | Forget | Add | Promote | Remove | Readdress


def next_step(
    candidates: Sequence[Candidate], seats: Sequence[Seat], records: Mapping[str, VoterRecord], *,
    steady_s: float = STEADY_S,
) -> Step | None:  # fmt: skip
    """What to do now; None when everything is as it should be, or has to be waited for."""
    known = {one.host.id: one for one in candidates}
    return _bookkeeping(known, seats, records) or _learner(known, seats, steady_s) or _size(candidates, known, seats)


def suitable(candidate: Candidate) -> bool:
    """Whether a host can be a voter at all; macOS and Windows have no etcd to rely on."""
    profile, host = candidate.host.profile, candidate.host
    alive = host.state is HostState.ALIVE and not candidate.leaving
    return alive and profile.os == "linux" and profile.has_engine("etcd")


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The best first: wired, always on, no laptop, fast to write (within a factor of two), not the largest GPU."""
    largest = max((one.host.profile.vram_mb for one in candidates), default=0)

    def key(one: Candidate) -> tuple[bool | int | str, ...]:
        profile = one.host.profile
        return (
            not profile.network.wired, profile.duty is not Duty.ALWAYS, profile.laptop,
            int(profile.disk.fsync_ms).bit_length(), 0 < largest == profile.vram_mb, one.host.id,
        )  # fmt: skip

    return sorted(candidates, key=key)


def _bookkeeping(
    known: Mapping[str, Candidate], seats: Sequence[Seat], records: Mapping[str, VoterRecord]
) -> Step | None:
    """Records say what etcd says, and etcd knows every host by its present address."""
    for seat in seats:
        candidate = known.get(seat.host or "")
        if candidate is None:
            continue
        record = _record(candidate, seat)
        if seat.peer_url != candidate.peer_url and candidate.host.state is HostState.ALIVE:
            return Readdress(seat, record)
        if records.get(record.host) != record and seat.peer_url == candidate.peer_url:
            return Note(record)
    seated = {seat.host for seat in seats}
    for host, record in records.items():
        if host not in seated and (record.state is not VoterState.WANTED or host not in known):
            return Forget(host)
    return None


def _learner(known: Mapping[str, Candidate], seats: Sequence[Seat], steady_s: float) -> Step | None:
    """etcd has room for one learner at a time, so it is dealt with before anything else."""
    for seat in seats:
        if not seat.learner:
            continue
        candidate = known.get(seat.host or "")
        if candidate is None or not suitable(candidate):
            return Remove(seat, "it is gone before it voted")
        if seat.healthy and seat.steady_s >= steady_s:
            return Promote(replace(_record(candidate, seat), state=VoterState.VOTER))
    return None


def _size(candidates: Sequence[Candidate], known: Mapping[str, Candidate], seats: Sequence[Seat]) -> Step | None:
    """Three voters where three hosts are suitable, else one; one that leaves goes when the others can do without."""
    voters = [seat for seat in seats if not seat.learner]
    if any(seat.learner for seat in seats) or not voters:
        return None
    going = [seat for seat in voters if (found := known.get(seat.host or "")) is None or found.leaving]
    staying = [seat for seat in voters if seat not in going]
    chosen = _chosen(candidates, known, seats, VOTERS - len(staying))
    size = VOTERS if len(staying) + len(chosen) >= VOTERS else 1
    if len(staying) < size and chosen and all(seat.healthy for seat in staying):
        record = VoterRecord(chosen[0].host.id, chosen[0].peer_url, chosen[0].client_url, VoterState.WANTED)
        if not (going and len(voters) >= VOTERS):  # with three, first the one that goes, so that there are never four
            return Add(record)
    for seat in going:
        if _bearable(voters, seat):
            return Remove(seat, "its host leaves")
    if len(staying) > size and not going:
        order = [one.host.id for one in ranked([known[seat.host or ""] for seat in staying])]
        last = max(staying, key=lambda seat: order.index(seat.host or ""))
        if _bearable(voters, last):
            return Remove(last, "two voters are worse than one")
    return None


def _chosen(
    candidates: Sequence[Candidate], known: Mapping[str, Candidate], seats: Sequence[Seat], wanted: int
) -> list[Candidate]:
    """The best hosts without a seat; those that are on only sometimes stay a minority of the voters."""
    seated = {seat.host for seat in seats}
    part_time = sum(one.host.profile.duty is Duty.SOMETIMES for host, one in known.items() if host in seated)
    found: list[Candidate] = []
    for one in ranked([one for one in candidates if suitable(one) and one.host.id not in seated]):
        if len(found) == wanted:
            break
        if one.host.profile.duty is Duty.SOMETIMES:
            part_time += 1
            if part_time > (VOTERS - 1) // 2:
                continue
        found.append(one)
    return found


def _bearable(voters: Sequence[Seat], without: Seat) -> bool:
    """Whether the others are a working majority of themselves."""
    rest = [seat for seat in voters if seat != without]
    return bool(rest) and sum(seat.healthy for seat in rest) * 2 > len(rest)


def _record(candidate: Candidate, seat: Seat) -> VoterRecord:
    state = VoterState.LEARNER if seat.learner else VoterState.VOTER
    return VoterRecord(candidate.host.id, candidate.peer_url, candidate.client_url, state, seat.member)
