"""Whether a host counts as there: a table of what is seen and what is made of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from morgand.cluster.codec import HostRecord
from morgand.cluster.hosts import DOUBT_S, SILENT_S, Sight, changes, verdict
from morgand.state import HostState as S
from morgand.state import MemberStatus as G

QUIET = Sight(G.FAILED, SILENT_S)
FINE = Sight(G.ALIVE, 0.0)


@pytest.mark.parametrize(
    ("state", "gossip", "silent_s", "expected"),
    [
        (S.ALIVE, G.ALIVE, 0.0, S.ALIVE),
        (S.ALIVE, G.FAILED, 0.0, S.ALIVE),  # gossip alone never fences
        (S.ALIVE, None, 0.5, S.ALIVE),  # a moment of silence is nothing
        (S.ALIVE, G.ALIVE, 60.0, S.SUSPECT),  # one bad link fences nobody
        (S.ALIVE, G.FAILED, SILENT_S, S.FENCED),
        (S.ALIVE, G.LEFT, SILENT_S, S.FENCED),
        (S.ALIVE, None, SILENT_S, S.FENCED),
        (S.SUSPECT, G.FAILED, 3.0, S.FENCED),
        (S.SUSPECT, G.ALIVE, 0.0, S.ALIVE),
        (S.FENCED, G.FAILED, 60.0, S.FENCED),
        (S.FENCED, G.ALIVE, 60.0, S.FENCED),  # back in gossip, but not to be reached
        (S.FENCED, G.ALIVE, 0.0, S.ALIVE),
        (S.LEFT, G.ALIVE, 0.0, S.LEFT),  # who said goodbye says hello itself
        (S.LEFT, G.FAILED, 60.0, S.LEFT),
    ],
)
def test_verdict(state: S, gossip: G | None, silent_s: float, expected: S) -> None:
    """Gossip and silence together fence; either alone does not."""
    assert verdict(state, Sight(gossip, silent_s)) is expected


def hosts(count: int) -> list[HostRecord]:
    return [HostRecord(f"h{number}", f"h{number}", "192.0.2.1") for number in range(count)]


def test_only_what_changes_is_written() -> None:
    records = hosts(4)
    sights = {"h1": QUIET, "h2": FINE, "h3": FINE}
    assert changes(records, sights, "h0") == [replace(records[1], state=S.FENCED)]


def test_a_host_nobody_looked_at_keeps_its_state() -> None:
    assert changes(hosts(3), {}, "h0") == []


def test_whoever_leads_is_there() -> None:
    """A leader that was fenced before it won writes itself back."""
    records = [replace(hosts(1)[0], state=S.FENCED)]
    assert changes(records, {}, "h0") == hosts(1)


def test_when_most_hosts_look_dead_the_observer_doubts_itself() -> None:
    """They are suspect until the silence has lasted; a minority is believed at once."""
    records = hosts(5)
    at_once = {"h1": QUIET, "h2": QUIET, "h3": QUIET, "h4": FINE}
    assert {one.state for one in changes(records, at_once, "h0")} == {S.SUSPECT}
    lasting = {host: replace(sight, silent_s=DOUBT_S) if sight is QUIET else sight for host, sight in at_once.items()}
    assert [one.state for one in changes(records, lasting, "h0")] == [S.FENCED] * 3
    few = {"h1": QUIET, "h2": QUIET, "h3": FINE, "h4": FINE}
    assert [one.state for one in changes(records, few, "h0")] == [S.FENCED] * 2


def test_doubt_frees_nobody_who_is_fenced_already() -> None:
    records = [*hosts(3), replace(hosts(4)[3], state=S.FENCED)]
    sights = {"h1": QUIET, "h2": QUIET, "h3": Sight(G.FAILED, 99.0)}
    assert all(one.id != "h3" for one in changes(records, sights, "h0"))


def test_of_two_hosts_the_other_may_be_dead() -> None:
    """With one other host there is no majority to doubt oneself against; the store's quorum decides."""
    assert [one.state for one in changes(hosts(2), {"h1": QUIET}, "h0")] == [S.FENCED]
