"""Which step brings etcd to the right voters: tables of hosts and seats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from morgand.cluster.seat import Act, act
from morgand.cluster.voters import (
    Add,
    Candidate,
    Forget,
    Note,
    Promote,
    Readdress,
    Remove,
    Seat,
    VoterRecord,
    VoterState,
    next_step,
    ranked,
)
from morgand.state import Disk, Duty, Gpu, Host, HostState, Network
from tests.fakes.clusters import EMBEDDED, profile

MEMBERS = {"a": "a1", "b": "b2", "c": "c3", "d": "d4"}


def host(
    name: str, *, os: str = "linux", engines: Sequence[str] = (*EMBEDDED, "etcd"), wired: bool = True,
    duty: Duty = Duty.ALWAYS, laptop: bool = False, fsync_ms: float = 1.0, vram_mb: int = 0, **facts: Any,
) -> Candidate:  # fmt: skip
    found = replace(
        profile(engines=engines), os=os, network=Network("eth0", f"192.0.2.{ord(name)}", wired=wired), duty=duty,
        laptop=laptop, disk=Disk("/data", 1, 1, fsync_ms), gpus=(Gpu("card", vram_mb),) if vram_mb else (),
    )  # fmt: skip
    return Candidate(Host(name, name, f"192.0.2.{ord(name)}", found, **facts), 7471)


def seat(name: str, **facts: Any) -> Seat:
    return Seat(MEMBERS[name], name, host(name).peer_url, **{"steady_s": 60.0, **facts})


def record(name: str, state: VoterState = VoterState.VOTER, member: str | None = None) -> VoterRecord:
    urls = host(name)
    found = MEMBERS[name] if member is None else member
    return VoterRecord(name, urls.peer_url, urls.client_url, state, found)


def step(candidates: Sequence[Candidate], seats: Sequence[Seat], **changed: VoterRecord | None) -> object:
    """The next step where every record says what its seat says, but for ``changed``."""
    records: dict[str, VoterRecord | None] = {
        one.host or "": record(one.host or "", VoterState.LEARNER if one.learner else VoterState.VOTER)
        for one in seats
        if one.host in MEMBERS
    }
    known = {name: one for name, one in {**records, **changed}.items() if one is not None}
    return next_step(candidates, seats, known, steady_s=10)


WANTED_B = Add(record("b", VoterState.WANTED, ""))


@pytest.mark.parametrize(
    ("candidates", "seats", "expected"),
    [
        ("a", [seat("a")], None),
        ("ab", [seat("a")], None),
        ("abc", [seat("a")], WANTED_B),
        ("abcd", [seat("a")], WANTED_B),
        ("abc", [seat("a"), seat("b", learner=True, steady_s=9.9)], None),
        ("abc", [seat("a"), seat("b", learner=True, healthy=False)], None),
        ("abc", [seat("a"), seat("b", learner=True, steady_s=10.0)], Promote(record("b"))),
        ("abc", [seat("a"), seat("b")], Add(record("c", VoterState.WANTED, ""))),
        ("abc", [seat("a"), seat("b", healthy=False)], None),
        ("abc", [seat("a"), seat("b"), seat("c")], None),
        ("abcd", [seat("a"), seat("b"), seat("c", healthy=False)], None),
        ("ab", [seat("a"), seat("b")], Remove(seat("b"), "two voters are worse than one")),
        ("ab", [seat("a"), seat("b"), seat("c")], Remove(seat("c"), "its host leaves")),
        ("ab", [seat("a", healthy=False), seat("b"), seat("c")], None),
        ("a", [seat("a"), seat("b", learner=True)], Remove(seat("b", learner=True), "it is gone before it voted")),
    ],
)
def test_growth_and_shrinking(candidates: str, seats: list[Seat], expected: object) -> None:
    """Three voters from three hosts on, one before; one at a time; never below a working majority."""
    assert step([host(name) for name in candidates], seats) == expected


@pytest.mark.parametrize(
    "unsuitable",
    [
        {"os": "darwin"},
        {"os": "windows"},
        {"engines": EMBEDDED},
        {"state": HostState.SUSPECT},
        {"state": HostState.FENCED},
        {"state": HostState.LEFT},
        {"draining": True},
    ],
)
def test_hosts_that_cannot_vote_do_not_count(unsuitable: dict[str, Any]) -> None:
    assert step([host("a"), host("b"), host("c", **unsuitable)], [seat("a")]) is None


def test_hosts_that_are_on_only_sometimes_stay_a_minority() -> None:
    part_time = [host(name, duty=Duty.SOMETIMES) for name in "bc"]
    assert step([host("a"), *part_time], [seat("a")]) is None
    assert step([host("a"), *part_time, host("d")], [seat("a")]) == Add(record("d", VoterState.WANTED, ""))
    assert step([host("a"), *part_time, host("d")], [seat("a"), seat("d")]) == WANTED_B


def test_the_rank_of_hosts() -> None:
    """Wired, always on, no laptop, fast to write, not the largest GPU; then the id, so that it is the same for all."""
    hosts = [
        host("h", wired=False),
        host("g", duty=Duty.SOMETIMES),
        host("f", laptop=True),
        host("e", fsync_ms=30.0),
        host("d", vram_mb=24_000),
        host("c", vram_mb=8_000),
        host("b", fsync_ms=0.4),
        host("a", fsync_ms=0.9),
    ]
    assert "".join(one.host.id for one in ranked(hosts)) == "abcdefgh"


def test_a_drained_founder_hands_over_first() -> None:
    """With two hosts the other becomes the voter, then the founder goes: never is there none."""
    hosts = [host("a", draining=True), host("b")]
    assert step(hosts, [seat("a")]) == WANTED_B
    assert step(hosts, [seat("a"), seat("b")]) == Remove(seat("a"), "its host leaves")
    assert step(hosts, [seat("b")]) is None
    assert step(hosts[:1], [seat("a")]) is None


def test_with_three_voters_the_leaving_one_goes_before_its_successor_comes() -> None:
    hosts = [host("a"), host("b"), host("c", draining=True), host("d")]
    assert step(hosts, [seat(name) for name in "abc"]) == Remove(seat("c"), "its host leaves")
    assert step(hosts, [seat(name) for name in "ab"]) == Add(record("d", VoterState.WANTED, ""))


def test_records_follow_what_etcd_says() -> None:
    """After a leader that died between two steps, too."""
    hosts = [host("a"), host("b"), host("c")]
    assert step(hosts, [seat("a")], a=None) == Note(record("a"))
    learner = seat("b", learner=True, steady_s=0.0)
    added = record("b", VoterState.WANTED, "")
    assert step(hosts, [seat("a"), learner], b=added) == Note(record("b", VoterState.LEARNER))
    assert step(hosts, [seat("a"), seat("b")], b=record("b", VoterState.LEARNER)) == Note(record("b"))
    assert step(hosts[:2], [seat("a")], b=record("b")) == Forget("b")
    assert step(hosts[:1], [seat("a")], b=added) == Forget("b")


def test_a_new_address_is_told_to_etcd_first() -> None:
    moved = replace(host("a"), host=replace(host("a").host, address="192.0.2.200"))
    new = replace(record("a"), peer_url=moved.peer_url, client_url=moved.client_url)
    assert step([moved], [seat("a")]) == Readdress(seat("a"), new)
    assert step([moved], [replace(seat("a"), peer_url=moved.peer_url)]) == Note(new)


@pytest.mark.parametrize(
    ("record", "prepared", "member", "listed", "expected"),
    [
        (None, False, "", False, Act.KEEP),
        (None, True, "", True, Act.KEEP),  # a founder nobody wrote down yet
        (None, True, "a1", False, Act.LEAVE),
        (record("a", VoterState.WANTED, ""), False, "", False, Act.KEEP),
        (record("a", VoterState.LEARNER), False, "", False, Act.JOIN),
        (record("a", VoterState.LEARNER), True, "a1", False, Act.KEEP),
        (record("a", VoterState.VOTER), True, "", False, Act.KEEP),
        (record("a", VoterState.LEARNER), True, "a0", False, Act.JOIN),  # with data of a former membership
    ],
)
def test_what_a_host_does_about_its_own_etcd(
    record: VoterRecord | None, prepared: bool, member: str, listed: bool, expected: Act
) -> None:
    assert act(record, prepared, member, listed) is expected
