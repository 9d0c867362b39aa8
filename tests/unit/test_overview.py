"""What status shows, built from values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from morgand import overview
from morgand.state import Assignment, HostState, Member, MemberStatus, RoleState, RoleStatus
from tests.fakes.clusters import host

DB = Assignment(role="db", part="primary", host="a", engine="sqlite", epoch=3, why="the only host")
READY = RoleStatus("db", "primary", "a", RoleState.READY, 3, "the only host")
ATLAS, BOLT, COMET = host("a"), host("b"), host("c")


def test_without_a_quorum_hosts_are_as_gossip_has_them() -> None:
    """Who is not seen is suspect; this host sees itself; what was decided before stays."""
    members = {"b": Member("b", "192.0.2.1", MemberStatus.FAILED), "c": Member("c", "192.0.2.1", MemberStatus.ALIVE)}
    fenced = replace(host("d"), state=HostState.FENCED)
    found = overview.as_gossip_has_it((ATLAS, BOLT, COMET, fenced), members, "a")
    assert [one.state for one in found] == [HostState.ALIVE, HostState.SUSPECT, HostState.ALIVE, HostState.FENCED]


def test_a_role_on_a_host_that_is_away_has_failed_whatever_it_said_last() -> None:
    away = replace(ATLAS, state=HostState.FENCED)
    (view,) = overview.role_views((DB,), [READY], (away, BOLT))
    assert (view.state, view.detail) == ("failed", "a is fenced")
    (view,) = overview.role_views((DB,), [READY], (ATLAS, BOLT))
    assert view.state == "ready"
    (view,) = overview.role_views((DB,), [], (ATLAS, BOLT))
    assert view.state == "starting"
    (view,) = overview.role_views((), [READY], (ATLAS, BOLT))
    assert view.state == "stopping"


def test_status_says_which_loss_would_stop_everything() -> None:
    def told(hosts: int, voters: int) -> str:
        every = tuple(host(f"h{number}") for number in range(hosts))
        return " ".join(one for one in overview.warnings(every, every[:voters], [], 0) if "stop every decision" in one)

    assert told(1, 1) == ""
    assert "The loss of h0" in told(2, 1)
    assert "third always-on box" in told(2, 1)
    assert told(3, 3) == ""
    assert "The loss of h0 or h1" in told(5, 2)


def test_messages_that_wait_or_were_refused_are_told_with_what_to_do() -> None:
    assert overview.outbox_warnings("atlas", 0, [], []) == []
    (one,) = overview.outbox_warnings("atlas", 1, [], [])
    assert one == "1 message waits on atlas and will be sent as soon as the database can be reached."
    several, refused, damaged = overview.outbox_warnings("atlas", 3, ["gone", "taken"], [Path("/x/1.damaged")])
    assert several.startswith("3 messages wait on atlas")
    assert "2 messages kept on atlas were refused by the database (taken)" in refused
    assert "`morganctl conversations discard ID`" in refused
    assert "/x/1.damaged" in damaged


def test_a_host_that_is_away_is_named_with_what_to_do() -> None:
    (told,) = overview.warnings((replace(ATLAS, state=HostState.FENCED),), (), [overview.role_view(READY)], 0)[:1]
    assert told == "a is fenced: switch it on, or remove it with `morganctl hosts remove a`."
