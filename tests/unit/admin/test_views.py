"""What status shows, built from values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from morgand.admin import views
from morgand.base.disk import DiskLevel
from morgand.cluster import keys
from morgand.cluster.store import Item
from morgand.roles.catalog import SPECS
from morgand.roles.db.patroni_keys import Patroni
from morgand.state.hosts import Host, HostState
from morgand.state.roles import Assignment, RoleState, RoleStatus
from tests.fakes.clusters import host, sick, snapshot

DB = Assignment(role="db", part="primary", host="a", engine="sqlite", epoch=3, why="the only host")
READY = RoleStatus("db", "primary", "a", RoleState.READY, 3, "the only host")
ATLAS, BOLT = host("a"), host("b")


def test_copies_of_the_database_that_are_no_longer_kept_are_not_told() -> None:
    """Patroni forgets them after twenty seconds."""
    said = {
        "leader": b"a",
        "sync": b'{"leader":"a","sync_standby":"b"}',
        "members/b": b'{"replication_state":"streaming"}',
        "members/c": b'{"replication_state":"streaming"}',
    }
    patroni = Patroni({keys.PATRONI + name: Item(keys.PATRONI + name, value, 1, 1) for name, value in said.items()}, 1)
    placed = tuple(replace(DB, part=part, host=name) for part, name in (("primary", "a"), ("standby", "b")))
    view = views.database_view(placed, patroni, lost=False)
    assert (view.primary, [(one.host, one.sync) for one in view.standbys]) == ("a", [("b", True)])


def test_a_role_on_a_host_that_is_away_has_failed_whatever_it_said_last() -> None:
    away = replace(ATLAS, state=HostState.FENCED)
    (view,) = views.role_views((DB,), [READY], (away, BOLT))
    assert (view.state, view.detail) == ("failed", "a is fenced")
    (view,) = views.role_views((DB,), [READY], (ATLAS, BOLT))
    assert view.state == "ready"
    (view,) = views.role_views((DB,), [], (ATLAS, BOLT))
    assert view.state == "starting"
    (view,) = views.role_views((), [READY], (ATLAS, BOLT))
    assert view.state == "stopping"


def test_a_role_on_a_host_that_does_not_answer_has_failed_and_is_told_of_once() -> None:
    """While nobody can give that host up: what to do about it is said of the host, not of each of its roles."""
    silent = frozenset({"a"})
    (view,) = views.role_views((DB,), [READY], (ATLAS, BOLT), silent)
    assert (view.state, view.detail) == ("failed", "a does not answer")
    assert not [
        one for one in views.warnings((ATLAS, BOLT), (), [view], 0, silent, specs=SPECS) if one.startswith("db")
    ]


def test_status_says_which_loss_would_stop_everything() -> None:
    def told(hosts: int, voters: int) -> str:
        every = tuple(host(f"h{number}") for number in range(hosts))
        return " ".join(
            one for one in views.warnings(every, every[:voters], [], 0, specs=SPECS) if "stop every decision" in one
        )

    assert told(1, 1) == ""
    assert "The loss of h0" in told(2, 1)
    assert "third always-on box" in told(2, 1)
    assert told(3, 3) == ""
    assert "The loss of h0 or h1" in told(5, 2)
    gone = replace(ATLAS, state=HostState.SUSPECT)
    assert not [
        one for one in views.warnings((gone, BOLT), (gone,), [], 0, specs=SPECS) if "stop every decision" in one
    ]


@pytest.mark.parametrize(
    ("level", "words"),
    [
        (DiskLevel.LOW, "a's disk has little space left (102400 MB): free some under /data"),
        (DiskLevel.FULL, "a's disk is full (102400 MB left): free some space under /data. Until then db can store"),
        (DiskLevel.READ_ONLY, "a's disk can only be read"),
        (DiskLevel.FAILING, "replace the disk of /data"),
        (DiskLevel.SLOW, "a's disk is slow (a small write takes 1 ms)"),
    ],
)
def test_a_disk_that_is_not_well_is_named_with_what_to_do(level: DiskLevel, words: str) -> None:
    """Of hosts that are there, and with what cannot be stored meanwhile."""

    def told(one: Host) -> str:
        return " ".join(views.warnings((one, BOLT), (), [views.role_view(READY)], 0, specs=SPECS))

    assert words in told(sick(ATLAS, level))
    assert "disk" not in told(ATLAS)
    assert "disk" not in told(replace(sick(ATLAS, level), state=HostState.FENCED))


def test_messages_that_wait_or_were_refused_are_told_with_what_to_do() -> None:
    assert views.outbox_warnings("atlas", 0, [], []) == []
    (one,) = views.outbox_warnings("atlas", 1, [], [])
    assert one == "1 message waits on atlas and will be sent as soon as the database can be reached."
    several, refused, damaged = views.outbox_warnings("atlas", 3, ["gone", "taken"], [Path("/x/1.damaged")])
    assert several.startswith("3 messages wait on atlas")
    assert "2 messages kept on atlas were refused by the database (taken)" in refused
    assert "`morganctl conversations discard ID`" in refused
    assert "/x/1.damaged" in damaged


def test_a_host_that_is_away_is_named_with_what_to_do() -> None:
    (told,) = views.warnings((replace(ATLAS, state=HostState.FENCED),), (), [views.role_view(READY)], 0, specs=SPECS)[
        :1
    ]
    assert told == "a is fenced: switch it on, or remove it with `morganctl hosts remove a`."


def test_what_was_taken_from_a_host_that_failed_at_it_is_told() -> None:
    """Where it still is, its own state says that it has failed; of hosts that are gone nothing is said."""
    lost = {"llm": {"a": "The driver is gone.", "b": "No.", "z": "No."}}
    there = Assignment(role="llm", part="main", host="b", engine="llama.cpp", epoch=1, why="")
    found = views.failure_warnings(snapshot(host("a"), host("b"), failures=lost, assignments=(there,)))
    assert found == [
        "llm could not be performed on a and is elsewhere: The driver is gone. (`morganctl roles explain llm`)."
    ]
