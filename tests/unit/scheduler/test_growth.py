"""In which order a cluster grows, for how long whoever has just joined waits, and what status tells meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from morgand.admin.views import copy_warnings
from morgand.cluster.codec import HostRecord
from morgand.cluster.snapshot import is_new
from morgand.scheduler.growth import growth
from morgand.scheduler.plan import plan
from morgand.state.hosts import Duty, Host, HostState
from morgand.state.plans import Growth, Snapshot
from morgand.state.roles import Assignment
from tests.fakes.clusters import EMBEDDED, host, snapshot

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VOTERS = Growth("etcd gets 3 voters")
COPY = Growth("db gets a copy on another host", frozenset({"db"}))
TOLD = ["Only a has all that db stores; until another host has it too, its loss would stop every write."]


def hosts(names: str, without: str = "", **facts: Any) -> list[Host]:
    """Hosts with etcd and PostgreSQL, of which those in ``without`` have none; ``facts`` are those of c."""
    full = (*EMBEDDED, "etcd", "postgresql")
    found = [host(name, engines=EMBEDDED if name in without else full) for name in names]
    return [replace(one, **facts) if one.name == "c" else one for one in found]


def world(there: Sequence[Host], engine: str, copied: str = "", voters: int = 3, placed: str | None = None) -> Snapshot:
    """With the database's first part on a, and all of it on those in ``copied``; ``placed`` are to have copies."""
    held = Assignment("db", "primary", "a", engine, 3, "why")
    copies = (
        Assignment("db", "replica", name, "postgresql", 3, "why") for name in (copied if placed is None else placed)
    )
    return snapshot(*there, assignments=(held, *copies), copied={"db": frozenset(copied)}, voters=voters)


@pytest.mark.parametrize(
    ("there", "engine", "copied", "told"),
    [
        (hosts("a"), "sqlite", "", []),
        (hosts("ab"), "sqlite", "", TOLD),
        (hosts("ab", without="b"), "sqlite", "", []),
        (hosts("ab", without="a"), "sqlite", "", []),
        (hosts("abc", without="a"), "sqlite", "", TOLD),
        (hosts("abc"), "sqlite", "bc", TOLD),
        (hosts("abc"), "postgresql", "b", []),
        (hosts("abc"), "postgresql", "", TOLD),
        (hosts("abc", without="bc"), "postgresql", "", []),
        (hosts("ac", state=HostState.FENCED), "postgresql", "c", []),
        (hosts("abc", state=HostState.FENCED), "postgresql", "c", TOLD),
        (hosts("abc", draining=True), "postgresql", "c", TOLD),
    ],
)
def test_status_tells_whose_loss_would_cost_what_another_could_have(
    there: list[Host], engine: str, copied: str, told: list[str]
) -> None:
    """Where nobody else could have a copy there is nothing that waiting would mend."""
    assert copy_warnings(world(there, engine, copied)) == told


def test_a_copy_that_is_no_longer_wanted_is_not_counted_on() -> None:
    """It goes in a moment, whatever it has; the status does not show it either."""
    assert copy_warnings(world(hosts("abc"), "postgresql", "b", placed="c")) == TOLD


@pytest.mark.parametrize(
    ("names", "voters", "engine", "copied", "expected"),
    [
        ("a", 0, "sqlite", "", None),
        ("ab", 1, "sqlite", "", COPY),
        ("abc", 1, "sqlite", "", VOTERS),
        ("abc", 2, "postgresql", "b", VOTERS),
        ("abc", 3, "sqlite", "", COPY),
        ("abc", 3, "postgresql", "", COPY),
        ("abc", 3, "postgresql", "b", None),
        ("abcde", 3, "postgresql", "b", None),
    ],
)
def test_voters_come_first_then_the_database(
    names: str, voters: int, engine: str, copied: str, expected: Growth | None
) -> None:
    assert growth(world(hosts(names), engine, copied, voters)) == expected


def test_nobody_waits_for_voters_that_cannot_be() -> None:
    there = [*hosts("a"), *(replace(host, profile=replace(host.profile, duty=Duty.SOMETIMES)) for host in hosts("bc"))]
    assert growth(world(there, "postgresql", "b", 1)) is None
    assert growth(world([host(name) for name in "abc"], "sqlite", "", 1)) is None


def test_whoever_has_just_joined_gets_first_what_the_others_lack() -> None:
    """What it has it keeps; and whoever has been there for longer waits for nothing."""
    old, new = hosts("ab")
    early = world([old, replace(new, new=True)], "sqlite")
    assert {made.role for made in plan(early).assignments if made.host == "b"} == {"db"}
    assert any("b has just joined; first db gets a copy" in told.reason for told in plan(early).refusals)
    later = world([old, replace(new, new=True)], "postgresql", "b")
    every = plan(later)
    assert {made.role for made in every.assignments if made.host == "b"} > {"db"}
    assert plan(replace(later, assignments=every.assignments, copied={})).removed == ()
    longer = plan(replace(early, hosts=(old, new)))
    assert {made.role for made in longer.assignments if made.host == "b"} > {"db"}


def test_how_long_somebody_is_new() -> None:
    assert is_new(HostRecord("a", "a", "", joined=NOW - timedelta(seconds=89)), NOW)
    assert not is_new(HostRecord("a", "a", "", joined=NOW - timedelta(seconds=90)), NOW)
    assert not is_new(HostRecord("a", "a", ""), NOW)
