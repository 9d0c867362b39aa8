"""Which step brings etcd to the right voters: tables of hosts and seats."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from morgand.cluster.voters import (
    Forget,
    Note,
    Promote,
    Readdress,
    Remove,
    VoterCandidate,
    VoterState,
    VotingMember,
)
from morgand.leader.voter_plan import ranked
from morgand.state.hosts import Duty, HostState
from tests.fakes.clusters import EMBEDDED
from tests.unit.cluster.voting import FIVE, add, host, record, seat, settled, step, trio


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
        ("ab", [seat("a"), seat("b", learner=True)], Remove(seat("b", learner=True), "it is needed no longer")),
        ("abc", [seat("a"), seat("b")], add("c", votes=True)),
        ("abc", [seat("a"), seat("b"), seat("c", learner=True, steady_s=0.1)], Promote(record("c"))),
        ("abc", [seat("a"), seat("b", healthy=False)], None),
        ("abc", [seat("a"), seat("b"), seat("c")], None),
        ("abcd", [seat("a"), seat("b"), seat("c", healthy=False)], None),
        ("ab", [seat("a"), seat("b")], Remove(seat("b"), "2 voters bear no more losses than 1")),
        ("ab", [seat("a"), seat("b"), seat("c")], Remove(seat("c"), "its host leaves")),
        ("ab", [seat("a", healthy=False), seat("b"), seat("c")], None),
        ("a", [seat("a"), seat("b", learner=True)], Remove(seat("b", learner=True), "it is gone before it voted")),
    ],
)
def test_growth_and_shrinking(candidates: str, seats: list[VotingMember], expected: object) -> None:
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
    assert step([host("a"), *part_time, host("d")], [seat("a"), seat("d")]) == add("b", votes=True)


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
    assert step(hosts, [seat("a"), seat("b")]) == add("d", votes=True)


def test_one_becomes_two_only_when_a_third_waits() -> None:
    """And the third comes at once: two can lose nobody."""
    learner = seat("b", learner=True)
    silent = host("c", state=HostState.SUSPECT)
    assert step([host("a"), host("b"), silent], [seat("a"), learner]) is None
    assert step([host("a"), host("b"), host("c")], [seat("a"), learner]) == Promote(record("b"))
    assert step([host("a", draining=True), host("b")], [seat("a"), learner]) == Promote(record("b"))


def test_whoever_comes_as_a_voter_is_counted_on_once_it_has_been_well() -> None:
    """If it does not start it goes again, and so does the second, until another host can come."""
    hosts = [host(name) for name in "abc"]
    pair, wanted, coming = [seat("a"), seat("b")], record("c", VoterState.WANTED, ""), record("c", VoterState.LEARNER)
    third = seat("c", healthy=False, steady_s=0.0, ill_s=0.1)
    assert step(hosts, [*pair, third], c=wanted) == Note(coming)
    assert step(hosts, [*pair, third], c=coming) is None
    assert step(hosts, [*pair, seat("c", steady_s=0.1)], c=coming) == Note(record("c"))
    late = replace(third, ill_s=30.0)
    assert step(hosts, [*pair, late], c=coming) == Remove(late, "it does not start", failed=True)
    assert step(hosts, [*pair, late], c=record("c")) is None
    lost = [*hosts[:2], host("c", state=HostState.FENCED)]
    assert step(lost, [*pair, third], c=coming) == Remove(third, "it is gone before it voted")
    failed = [*hosts[:2], replace(hosts[2], failed=True)]
    assert step(failed, pair) == Remove(seat("b"), "2 voters bear no more losses than 1")
    assert step([*failed, host("d")], pair) == add("d", votes=True)


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


@pytest.mark.parametrize(
    ("hosts", "voters", "expected"),
    [
        (FIVE, "a", add("b", 5)),
        (FIVE, "abc", add("d", 5)),
        (FIVE, "abcd", add("e", 5, votes=True)),
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
    hosts: list[VoterCandidate], voters: str, expected: object
) -> None:
    assert step(hosts, [seat(name) for name in voters]) == expected


@pytest.mark.parametrize(
    ("hosts", "drained", "voters", "expected", "steps"),
    [
        ("abcde", "", "a", "abcde", "+b !b *c +d !d *e >b"),
        ("abcde", "e", "abcde", "abc", ">b -e -d"),
        ("abcd", "d", "abc", "abc", ">b"),
        ("abc", "c", "abc", "a", ">a -c -b"),
        ("abc", "a", "abc", "b", ">b -a -c"),  # the founder
        ("ab", "a", "a", "b", "+b !b >b -a"),  # the founder, the only voter
        ("abcde", "ab", "abcde", "cde", "-b >d -a"),
        ("abcd", "b", "abc", "acd", "+d !d >c -b"),
    ],
)
def test_the_whole_way(hosts: str, drained: str, voters: str, expected: str, steps: str) -> None:
    """Whatever is done meanwhile, whoever leads etcd hands over before it goes, and there is a voter at all times."""
    known = [host(name, draining=name in drained) for name in hosts]
    leads = next((name for name in voters if name in drained), voters[0])
    seats = [seat(name, leads=name == leads) for name in voters]
    leader = next(name for name in hosts if name not in drained)
    found, told = settled(known, seats, leader=leader)
    assert "".join(sorted(one.host or "" for one in found)) == expected
    assert told == steps
