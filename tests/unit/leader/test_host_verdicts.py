"""Whether a host counts as there: a table of what is seen and what is made of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from morgand.cluster.codec import HostRecord
from morgand.cluster.snapshot import PROBATION, on_probation
from morgand.leader.host_verdicts import DOUBT_S, QUARANTINE_S, changes, verdict
from morgand.state.hosts import HostState as S
from morgand.state.hosts import PeerHealth

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEAD = PeerHealth(silent_s=1.1, suspect=True, dead=True)
FINE = PeerHealth(well_s=60.0)


@pytest.mark.parametrize(
    ("state", "sight", "expected"),
    [
        (S.ALIVE, FINE, S.ALIVE),
        (S.ALIVE, PeerHealth(silent_s=0.5), S.ALIVE),  # a moment of silence is nothing
        (S.ALIVE, PeerHealth(silent_s=60.0, suspect=True), S.SUSPECT),  # one bad link fences nobody
        (S.ALIVE, DEAD, S.FENCED),
        (S.SUSPECT, DEAD, S.FENCED),
        (S.SUSPECT, FINE, S.ALIVE),
        (S.FENCED, DEAD, S.FENCED),
        (S.FENCED, PeerHealth(), S.FENCED),  # heard again, not yet for long
        (S.FENCED, PeerHealth(well_s=QUARANTINE_S - 0.1), S.FENCED),
        (S.FENCED, PeerHealth(well_s=QUARANTINE_S), S.ALIVE),
        (S.LEFT, FINE, S.LEFT),  # who said goodbye says hello itself
        (S.LEFT, DEAD, S.LEFT),
    ],
)
def test_verdict(state: S, sight: PeerHealth, expected: S) -> None:
    """Only what is agreed fences; only what has lasted frees."""
    assert verdict(state, sight) is expected


def hosts(count: int) -> list[HostRecord]:
    return [HostRecord(f"h{number}", f"h{number}", "192.0.2.1", peer="192.0.2.1:7471") for number in range(count)]


def test_only_what_changes_is_written() -> None:
    records = hosts(4)
    sights = {"h1": DEAD, "h2": FINE, "h3": FINE}
    assert changes(records, sights, "h0", NOW) == [replace(records[1], state=S.FENCED)]


def test_a_host_nobody_looked_at_keeps_its_state() -> None:
    assert changes(hosts(3), {}, "h0", NOW) == []


@pytest.mark.parametrize(("state", "expected"), [(S.ALIVE, S.FENCED), (S.SUSPECT, S.FENCED), (S.LEFT, S.LEFT)])
def test_a_host_that_nobody_can_ever_hear_is_not_there(state: S, expected: S) -> None:
    """It has no address for other hosts: an identity that a lone host had before it made the cluster."""
    records = [hosts(1)[0], HostRecord("old", "old", "192.0.2.9", state=state)]
    assert changes(records, {}, "h0", NOW) == ([replace(records[1], state=expected)] if state is not expected else [])


def test_whoever_leads_is_there() -> None:
    """A leader that was fenced before it won writes itself back, and is on probation like any other."""
    records = [replace(hosts(1)[0], state=S.FENCED)]
    assert changes(records, {}, "h0", NOW) == [replace(hosts(1)[0], returned=NOW)]


def test_a_control_loop_that_stood_still_does_not_condemn_everybody() -> None:
    """Most are dead at once: they are suspect until the silence has lasted; a minority is believed at once."""
    records = hosts(5)
    at_once = {"h1": DEAD, "h2": DEAD, "h3": DEAD, "h4": FINE}
    assert {one.state for one in changes(records, at_once, "h0", NOW)} == {S.SUSPECT}
    lasting = {host: replace(sight, silent_s=DOUBT_S) if sight is DEAD else sight for host, sight in at_once.items()}
    assert [one.state for one in changes(records, lasting, "h0", NOW)] == [S.FENCED] * 3
    few = {"h1": DEAD, "h2": DEAD, "h3": FINE, "h4": FINE}
    assert [one.state for one in changes(records, few, "h0", NOW)] == [S.FENCED] * 2


def test_doubt_frees_nobody_who_is_fenced_already() -> None:
    records = [*hosts(3), replace(hosts(4)[3], state=S.FENCED)]
    sights = {"h1": DEAD, "h2": DEAD, "h3": replace(DEAD, silent_s=99.0)}
    assert all(one.id != "h3" for one in changes(records, sights, "h0", NOW))


def test_of_two_hosts_the_other_may_be_dead() -> None:
    """With one other host there is no majority to doubt oneself against; the voters decide."""
    assert [one.state for one in changes(hosts(2), {"h1": DEAD}, "h0", NOW)] == [S.FENCED]


def test_a_host_that_was_welcomed_back_is_on_probation() -> None:
    """For a while, and not longer when somebody sets the clock."""
    [back] = changes([replace(hosts(2)[1], state=S.FENCED)], {"h1": FINE}, "h0", NOW)
    assert back.state is S.ALIVE
    assert on_probation(back, NOW + PROBATION / 2)
    assert not on_probation(back, NOW + PROBATION)
    assert not on_probation(back, NOW - timedelta(days=400))
    assert not on_probation(hosts(1)[0], NOW)
