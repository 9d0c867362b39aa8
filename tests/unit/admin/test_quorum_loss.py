"""What is said while nothing can be decided."""

from __future__ import annotations

from dataclasses import replace

import pytest

from morgand.admin import quorum_loss
from morgand.admin.quorum_loss import Reach
from morgand.state.hosts import Host, HostState, Member, MemberStatus, PeerHealth
from tests.fakes.clusters import host

ATLAS, BOLT, COMET = host("a"), host("b"), host("c")
HEARD, SILENT = PeerHealth(), PeerHealth(silent_s=2.0, suspect=True)


def gone(one: Host) -> Host:
    return replace(one, state=HostState.SUSPECT)


def test_hosts_are_as_the_detector_hears_them_and_else_as_gossip_has_it() -> None:
    """Who is not heard is suspect; this host sees itself; what was decided before stays."""
    every = (ATLAS, BOLT, COMET, replace(host("d"), state=HostState.FENCED))
    members = {"b": Member("b", "192.0.2.1", MemberStatus.FAILED), "c": Member("c", "192.0.2.1", MemberStatus.ALIVE)}
    by_gossip = [one.state.value for one in quorum_loss.as_seen(every, {}, members, "a")]
    assert by_gossip == ["alive", "suspect", "alive", "fenced"]
    by_ear = [one.state.value for one in quorum_loss.as_seen(every, {"b": HEARD, "c": SILENT}, members, "a")]
    assert by_ear == ["alive", "alive", "suspect", "fenced"]


@pytest.mark.parametrize(
    ("voters", "expected"),
    [
        ((), False),
        ((ATLAS,), False),
        ((gone(ATLAS),), True),
        ((ATLAS, BOLT, gone(COMET)), False),
        ((ATLAS, gone(BOLT), gone(COMET)), True),
    ],
)
def test_a_majority_of_the_voters_decides(voters: tuple[Host, ...], expected: object) -> None:
    assert quorum_loss.undecided(voters) is expected


def test_the_only_voter_is_named_with_what_works_without_it_and_the_command() -> None:
    why, works, todo = quorum_loss.told((gone(ATLAS),), Reach.COPY, None)
    assert why == f"Nothing can be decided from here: a ({ATLAS.address}), the only voter, does not answer."
    assert "may be stale" in works
    assert "kept here and sent later" in works
    assert todo.startswith("Switch a on")
    assert "if it is gone for good: `morgand stop`, `morgand recover`, `morgand start` on this host." in todo


def test_several_voters_are_counted_and_the_host_with_the_database_is_the_one_to_go_on_with() -> None:
    why, works, todo = quorum_loss.told((ATLAS, gone(BOLT), gone(COMET)), Reach.NOTHING, "delta")
    assert f"2 of 3 voters do not answer: b ({BOLT.address}) and c ({COMET.address})." in why
    assert "cannot be read" in works
    assert todo.endswith("on delta.")
    assert "Switch b and c on" in todo


def test_a_store_that_cannot_be_followed_though_everybody_is_there_is_said_to_be_so() -> None:
    why, works, _ = quorum_loss.told((ATLAS, BOLT, COMET), Reach.SERVED, None)
    assert "the cluster's store does not answer" in why
    assert "as ever" in works


def test_a_host_that_was_started_alone_says_where_it_looks_for_its_cluster() -> None:
    why, _, todo = quorum_loss.unconnected(["https://192.0.2.1:7473"])
    assert "https://192.0.2.1:7473" in why
    assert "`morgand recover`" in todo
