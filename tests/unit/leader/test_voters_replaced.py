"""Voters that are dead, stuck or in the wrong place: which step follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from morgand.cluster.voters import (
    MoveLeader,
    Promote,
    Remove,
)
from morgand.state.hosts import HostState
from tests.unit.cluster.voting import DEAD_S, FIVE, add, away, host, record, seat, step, trio


@pytest.mark.parametrize("state", [HostState.FENCED, HostState.LEFT])
def test_a_dead_voter_is_replaced(state: HostState) -> None:
    """It goes first, since etcd takes nobody while a voter is down; then its successor comes, and votes at once."""
    hosts = [host("a"), host("b"), host("c", state=state), host("d")]
    alive, dead = [seat("a"), seat("b")], away("c")
    assert step(hosts, [*alive, dead]) == Remove(dead, "it is down for too long")
    assert step(hosts, alive) == add("d", votes=True)
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
    assert step(hosts, [seat("a"), learner]) == Remove(learner, "it gets no further", failed=True)
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
    assert step(hosts, trio(a=True)) == MoveLeader(mine, seat("b"), "its host has enough to lose")
    assert step(hosts, trio(a=True), may_move=False) is None
    assert step(hosts, trio(b=True)) is None
    assert step(hosts, [mine, seat("b", steady_s=2.9), seat("c")]) == MoveLeader(
        mine, seat("c"), "its host has enough to lose"
    )
    assert step(hosts, [mine, seat("b", healthy=False), seat("c", steady_s=2.9)]) is None
    assert step([host("a"), host("b")], [mine]) is None
    assert step(hosts, [mine, seat("b"), seat("c", learner=True, healthy=False)]) is None


def test_etcd_is_led_by_another_host_than_the_databases() -> None:
    """The primary's host, the cluster's leader and etcd's are three, where there are three."""
    hosts = [host("a"), replace(host("b"), primary=True), host("c")]
    assert step(hosts, trio(a=True)) == MoveLeader(seat("a", leads=True), seat("c"), "its host has enough to lose")
    assert step(hosts, trio(b=True)) == MoveLeader(seat("b", leads=True), seat("c"), "its host has enough to lose")
    assert step(hosts, trio(c=True)) is None
    assert step(hosts, [seat("a", leads=True), seat("b"), seat("c", healthy=False)]) is None


@pytest.mark.parametrize("facts", [{"draining": True}, {"state": HostState.LEFT}, {"state": HostState.FENCED}])
def test_etcd_is_not_led_by_a_host_that_goes(facts: dict[str, Any]) -> None:
    """The cluster's leader takes over only where nobody else can."""
    hosts = [host("a"), host("b", **facts), host("c")]
    why = "its host is not to lead etcd"
    assert step(hosts, trio(b=True)) == MoveLeader(
        seat("b", leads=True), seat("a" if "draining" in facts else "c"), why
    )
    mine, down = seat("b", leads=True), seat("c", healthy=False)
    if "draining" not in facts:
        assert step(hosts, [seat("a"), mine, down]) == MoveLeader(mine, seat("a"), why)


def test_whoever_leads_etcd_hands_over_before_it_is_removed() -> None:
    """Unless that was tried a moment ago: its removal then ends its leadership, too."""
    hosts = [host("a"), host("b", draining=True), host("c"), host("d")]
    seats = [*trio(b=True), seat("d")]
    assert step(hosts, seats) == MoveLeader(seats[1], seat("c"), "its host is not to lead etcd")
    assert step(hosts, seats, may_move=False) == Remove(seats[1], "its host leaves")
