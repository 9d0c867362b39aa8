"""Hosts and seats named by a letter, and the step that follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from morgand.base.disk import Disk
from morgand.cluster.voters import (
    Add,
    MoveLeader,
    Promote,
    Remove,
    VoterCandidate,
    VoterPatience,
    VoterRecord,
    VoterState,
    VotingMember,
)
from morgand.leader.voter_plan import next_step
from morgand.state.hosts import Duty, Gpu, Host, Network
from tests.fakes.clusters import EMBEDDED, profile

MEMBERS = {name: f"{name}{number}" for number, name in enumerate("abcdefg", 1)}
DEAD_S = 300.0


def host(
    name: str, *, os: str = "linux", engines: Sequence[str] = (*EMBEDDED, "etcd"), wired: bool = True,
    duty: Duty = Duty.ALWAYS, laptop: bool = False, fsync_ms: float = 1.0, vram_mb: int = 0, **facts: Any,
) -> VoterCandidate:  # fmt: skip
    found = replace(
        profile(engines=engines), os=os, network=Network("eth0", f"192.0.2.{ord(name)}", wired=wired), duty=duty,
        laptop=laptop, disk=Disk("/data", 1, 1, fsync_ms), gpus=(Gpu("card", vram_mb),) if vram_mb else (),
    )  # fmt: skip
    return VoterCandidate(Host(name, name, f"192.0.2.{ord(name)}", found, **facts), 7471)


def seat(name: str, **facts: Any) -> VotingMember:
    return VotingMember(MEMBERS[name], name, host(name).peer_url, **{"steady_s": 60.0, **facts})


def record(name: str, state: VoterState = VoterState.VOTER, member: str | None = None) -> VoterRecord:
    urls = host(name)
    found = MEMBERS[name] if member is None else member
    return VoterRecord(name, urls.peer_url, urls.client_url, state, found)


def step(
    candidates: Sequence[VoterCandidate], seats: Sequence[VotingMember], *, leader: str = "a", may_move: bool = True,
    **changed: VoterRecord | None,
) -> object:  # fmt: skip
    """The next step where every record says what its seat says, but for ``changed``."""
    records: dict[str, VoterRecord | None] = {
        one.host or "": record(one.host or "", VoterState.LEARNER if one.learner else VoterState.VOTER)
        for one in seats
        if one.host in MEMBERS
    }
    known = {name: one for name, one in {**records, **changed}.items() if one is not None}
    patience = VoterPatience(steady_s=10, dead_s=DEAD_S, stuck_s=200)
    return next_step(candidates, seats, known, leader=leader, may_move=may_move, patience=patience)


def add(name: str, size: int = 3, *, votes: bool = False) -> Add:
    return Add(record(name, VoterState.WANTED, ""), f"voters wanted: {size}", votes)


def away(name: str, for_s: float = DEAD_S) -> VotingMember:
    return seat(name, healthy=False, steady_s=0.0, ill_s=for_s)


def trio(**facts: Any) -> list[VotingMember]:
    """Voters a, b and c, of which one leads etcd."""
    return [seat(name, leads=facts.get(name, False)) for name in "abc"]


FIVE = [host(name) for name in "abcde"]


def settled(
    candidates: Sequence[VoterCandidate], seats: Sequence[VotingMember], *, leader: str = "a"
) -> tuple[list[VotingMember], str]:
    """The seats when every step has been done, all members being well; and the steps: + comes, ! votes,
    * comes and votes, - goes, > leads etcd. Fails when a step takes away the working majority or etcd's leader."""
    found, told = list(seats), ""
    for _ in range(50):
        match step(candidates, found, leader=leader):
            case None:
                return found, told.strip()
            case Add(record=added, votes=votes):
                found.append(seat(added.host, learner=not votes))
                told += f" {'*' if votes else '+'}{added.host}"
            case Promote(record=promoted):
                found = [replace(one, learner=one.learner and one.host != promoted.host) for one in found]
                told += f" !{promoted.host}"
            case Remove(seat=gone):
                assert not gone.leads, f"{gone.host} leads etcd"
                found.remove(gone)
                assert any(not one.learner for one in found)
                told += f" -{gone.host}"
            case MoveLeader(seat_to=heir):
                found = [replace(one, leads=one.host == heir.host) for one in found]
                told += f" >{heir.host}"
            case other:
                raise AssertionError(f"records are in order: {other}")
    raise AssertionError(f"no end of steps: {told}")
