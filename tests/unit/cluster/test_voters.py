"""Which step brings etcd to the right voters: tables of hosts and seats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from morgand.cluster.autopilot import next_step, ranked
from morgand.cluster.seat import Act, act
from morgand.cluster.voters import (
    Add,
    Candidate,
    Forget,
    Move,
    Note,
    Patience,
    Promote,
    Readdress,
    Remove,
    Seat,
    VoterRecord,
    VoterState,
)
from morgand.state import Disk, Duty, Gpu, Host, HostState, Network
from tests.fakes.clusters import EMBEDDED, profile

MEMBERS = {name: f"{name}{number}" for number, name in enumerate("abcdefg", 1)}
DEAD_S = 300.0


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


def step(
    candidates: Sequence[Candidate], seats: Sequence[Seat], *, leader: str = "a", may_move: bool = True,
    **changed: VoterRecord | None,
) -> object:  # fmt: skip
    """The next step where every record says what its seat says, but for ``changed``."""
    records: dict[str, VoterRecord | None] = {
        one.host or "": record(one.host or "", VoterState.LEARNER if one.learner else VoterState.VOTER)
        for one in seats
        if one.host in MEMBERS
    }
    known = {name: one for name, one in {**records, **changed}.items() if one is not None}
    patience = Patience(steady_s=10, dead_s=DEAD_S, stuck_s=200)
    return next_step(candidates, seats, known, leader=leader, may_move=may_move, patience=patience)


def add(name: str, size: int = 3) -> Add:
    return Add(record(name, VoterState.WANTED, ""), f"voters wanted: {size}")


def away(name: str, for_s: float = DEAD_S) -> Seat:
    return seat(name, healthy=False, steady_s=0.0, ill_s=for_s)


def trio(**facts: Any) -> list[Seat]:
    """Voters a, b and c, of which one leads etcd."""
    return [seat(name, leads=facts.get(name, False)) for name in "abc"]


@pytest.mark.parametrize(
    ("candidates", "seats", "expected"),
    [
        ("a", [seat("a")], None),
        ("ab", [seat("a")], None),
        ("abc", [seat("a")], add("b")),
        ("abcd", [seat("a")], add("b")),
        ("abc", [seat("a"), seat("b", learner=True, steady_s=9.9)], None),
        ("abc", [seat("a"), seat("b", learner=True, healthy=False)], None),
        ("abc", [seat("a"), seat("b", learner=True, steady_s=10.0)], Promote(record("b"))),
        ("abc", [seat("a"), seat("b")], add("c")),
        ("abc", [seat("a"), seat("b", healthy=False)], None),
        ("abc", [seat("a"), seat("b"), seat("c")], None),
        ("abcd", [seat("a"), seat("b"), seat("c", healthy=False)], None),
        ("ab", [seat("a"), seat("b")], Remove(seat("b"), "2 voters bear no more losses than 1")),
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
    assert step([host("a"), *part_time, host("d")], [seat("a")]) == add("d")
    assert step([host("a"), *part_time, host("d")], [seat("a"), seat("d")]) == add("b")


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
    assert step(hosts, [seat("a")]) == add("b", 1)
    assert step(hosts, [seat("a"), seat("b")]) == Remove(seat("a"), "its host leaves")
    assert step(hosts, [seat("b")]) is None
    assert step(hosts[:1], [seat("a")]) is None


def test_a_successor_comes_before_a_voter_leaves() -> None:
    """Unless it is down: then etcd takes nobody before it is gone."""
    hosts = [host("a"), host("b"), host("c", draining=True), host("d")]
    assert step(hosts, trio()) == add("d")
    assert step(hosts, [*trio(), seat("d")]) == Remove(seat("c"), "its host leaves")
    down = seat("c", healthy=False)
    assert step(hosts, [seat("a"), seat("b"), down]) == Remove(down, "its host leaves")
    assert step(hosts, [seat("a"), seat("b")]) == add("d")


def test_of_two_that_leave_one_goes_before_the_next_successor_comes() -> None:
    """So there is never more than one voter too many."""
    hosts = [host("a"), host("b", draining=True), host("c", draining=True), host("d"), host("e")]
    assert step(hosts, trio()) == add("d")
    assert step(hosts, [*trio(), seat("d")]) == Remove(seat("c"), "its host leaves")
    assert step(hosts, [seat(name) for name in "abd"]) == add("e")


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
    assert step(hosts[:2], [seat("a")], b=added) == Forget("b")  # it was wanted, and is no longer
    assert step(hosts, [seat("a")], b=added) == add("b")


def test_a_new_address_is_told_to_etcd_first() -> None:
    moved = replace(host("a"), host=replace(host("a").host, address="192.0.2.200"))
    new = replace(record("a"), peer_url=moved.peer_url, client_url=moved.client_url)
    assert step([moved], [seat("a")]) == Readdress(seat("a"), new)
    assert step([moved], [replace(seat("a"), peer_url=moved.peer_url)]) == Note(new)


def test_nothing_is_decided_by_whoever_does_not_know_the_hosts() -> None:
    """A leader that has not read the hosts yet would see only voters of hosts that are gone."""
    assert step([], trio()) is None
    assert step([host("b")], trio()) is None


FIVE = [host(name) for name in "abcde"]


@pytest.mark.parametrize(
    ("hosts", "voters", "expected"),
    [
        (FIVE, "a", add("b", 5)),
        (FIVE, "abc", add("d", 5)),
        (FIVE, "abcd", add("e", 5)),
        (FIVE, "abcde", None),
        ([*FIVE, host("f")], "abcde", None),
        ([*FIVE[:4], host("e", wired=False)], "abc", None),
        ([*FIVE[:4], host("e", duty=Duty.SOMETIMES)], "abc", None),
        ([*FIVE[:4], host("e", draining=True)], "abc", None),
        (FIVE[:4], "abcd", Remove(seat("d"), "4 voters bear no more losses than 3")),
        ([*FIVE[:4], host("e", state=HostState.SUSPECT)], "abcd", None),  # a moment's silence undoes nothing
        ([*FIVE[:4], host("e", draining=True)], "abcde", Remove(seat("e"), "its host leaves")),
        ([*FIVE[:4], host("e", wired=False)], "abcde", Remove(seat("e"), "five voters have to be wired and always on")),
        ([host("a", wired=False), *FIVE[1:], host("f")], "abcde", add("f", 5)),
        (
            [host("a", wired=False), *FIVE[1:], host("f")],
            "abcdef",
            Remove(seat("a"), "five others are wired and always on"),
        ),
    ],
)
def test_five_voters_where_five_hosts_are_wired_and_always_on(
    hosts: list[Candidate], voters: str, expected: object
) -> None:
    assert step(hosts, [seat(name) for name in voters]) == expected


@pytest.mark.parametrize("state", [HostState.FENCED, HostState.LEFT])
def test_a_dead_voter_is_replaced(state: HostState) -> None:
    """It goes first, since etcd takes nobody while a voter is down; then its successor learns, and votes."""
    hosts = [host("a"), host("b"), host("c", state=state), host("d")]
    alive, dead = [seat("a"), seat("b")], away("c")
    assert step(hosts, [*alive, dead]) == Remove(dead, "it is down for too long")
    assert step(hosts, alive) == add("d")
    assert step(hosts, [*alive, seat("d", learner=True)]) == Promote(record("d"))
    assert step(hosts, [*alive, seat("d")]) is None


@pytest.mark.parametrize(
    ("c", "d", "for_s"),
    [
        ({"state": HostState.FENCED}, {}, DEAD_S - 0.1),
        ({}, {}, DEAD_S),
        ({"state": HostState.SUSPECT}, {}, DEAD_S),
        ({"state": HostState.FENCED}, {"os": "darwin"}, DEAD_S),
        ({"state": HostState.FENCED}, {"state": HostState.SUSPECT}, DEAD_S),
    ],
)
def test_a_voter_keeps_its_seat(c: dict[str, Any], d: dict[str, Any], for_s: float) -> None:
    """Before its time is up, while its host is there, and while nobody can follow it."""
    hosts = [host("a"), host("b"), host("c", **c), host("d", **d)]
    assert step(hosts, [seat("a"), seat("b"), away("c", for_s)]) is None


def test_a_dead_one_of_five_is_only_replaced_by_one_that_is_fit_for_five() -> None:
    hosts = [*FIVE[:4], host("e", state=HostState.FENCED)]
    seats = [*(seat(name) for name in "abcd"), away("e")]
    assert step([*hosts, host("f", wired=False)], seats) is None
    assert step([*hosts, host("f")], seats) == Remove(away("e"), "it is down for too long")


def test_two_dead_ones_of_five_go_one_after_the_other() -> None:
    """Both go before anybody comes: etcd takes nobody before."""
    hosts = [*FIVE[:3], *(host(name, state=HostState.FENCED) for name in "de"), host("f")]
    alive = [seat(name) for name in "abc"]
    assert step(hosts, [*alive, away("d"), away("e")]) == Remove(away("d"), "it is down for too long")
    assert step(hosts, [*alive, away("e")]) == Remove(away("e"), "it is down for too long")
    assert step(hosts, [*alive, away("d"), away("e", 20)]) is None


def test_a_fourth_voter_that_is_down_for_long_goes_though_its_host_is_there() -> None:
    """It keeps the fifth from coming, and four are no better than three."""
    seats = [*trio(), away("d")]
    assert step(FIVE, seats) == Remove(seats[3], "it is down for too long")
    assert step(FIVE, [*trio(), away("d", DEAD_S - 1)]) is None


def test_nobody_dead_goes_without_a_working_majority_of_the_others() -> None:
    hosts = [*FIVE[:2], *(host(name, state=HostState.FENCED) for name in "cde"), host("f")]
    assert step(hosts, [seat("a"), seat("b"), *(away(name) for name in "cde")]) is None


def test_a_learner_that_gets_no_further_is_given_up() -> None:
    """Another host is tried then, and this one not again for a while."""
    hosts = [host(name) for name in "abcd"]
    learner = seat("b", learner=True, healthy=False, steady_s=0.0, ill_s=199.0)
    assert step(hosts, [seat("a"), learner]) is None
    learner = replace(learner, ill_s=200.0)
    assert step(hosts, [seat("a"), learner]) == Remove(learner, "it gets no further")
    hosts[1] = replace(hosts[1], failed=True)
    assert step(hosts, [seat("a")]) == add("c")


def test_a_learner_that_is_needed_no_longer_goes() -> None:
    learner = seat("b", learner=True)
    assert step([host("a"), host("b")], [seat("a"), learner]) == Remove(learner, "it is needed no longer")


def test_a_moments_silence_makes_no_learner_go() -> None:
    silent = host("b", state=HostState.SUSPECT)
    assert step([host("a"), silent, host("c")], [seat("a"), seat("b", learner=True)]) is None


def test_etcd_is_led_by_another_host_than_the_cluster() -> None:
    """Where there are three voters, by one that has been well for a while."""
    hosts = [host(name) for name in "abc"]
    mine = seat("a", leads=True)
    assert step(hosts, trio(a=True)) == Move(mine, seat("b"), "its host leads the cluster")
    assert step(hosts, trio(a=True), may_move=False) is None
    assert step(hosts, trio(b=True)) is None
    assert step(hosts, [mine, seat("b", steady_s=9.0), seat("c")]) == Move(
        mine, seat("c"), "its host leads the cluster"
    )
    assert step(hosts, [mine, seat("b", healthy=False), seat("c", steady_s=9.0)]) is None
    assert step([host("a"), host("b")], [mine]) is None
    assert step(hosts, [mine, seat("b"), seat("c", learner=True, steady_s=1.0)]) is None


@pytest.mark.parametrize("facts", [{"draining": True}, {"state": HostState.LEFT}, {"state": HostState.FENCED}])
def test_etcd_is_not_led_by_a_host_that_goes(facts: dict[str, Any]) -> None:
    """The cluster's leader takes over only where nobody else can."""
    hosts = [host("a"), host("b", **facts), host("c")]
    why = "its host is not to lead etcd"
    assert step(hosts, trio(b=True)) == Move(seat("b", leads=True), seat("a" if "draining" in facts else "c"), why)
    mine, down = seat("b", leads=True), seat("c", healthy=False)
    if "draining" not in facts:
        assert step(hosts, [seat("a"), mine, down]) == Move(mine, seat("a"), why)


def test_whoever_leads_etcd_hands_over_before_it_is_removed() -> None:
    """Unless that was tried a moment ago: its removal then ends its leadership, too."""
    hosts = [host("a"), host("b", draining=True), host("c"), host("d")]
    seats = [*trio(b=True), seat("d")]
    assert step(hosts, seats) == Move(seats[1], seat("c"), "its host is not to lead etcd")
    assert step(hosts, seats, may_move=False) == Remove(seats[1], "its host leaves")


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
