"""A cluster whose voters are lost: when it may go on by hand, and with what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from morgand.cluster import codec, keys
from morgand.cluster.codec import ElectionRecord, HostRecord
from morgand.cluster.voters import VoterRecord, VoterState
from morgand.membership.recovery_plan import (
    EPOCH_LEAP,
    Survivor,
    assigned,
    objection,
    others,
    outdated,
    recovered,
    voters,
)
from morgand.membership.registry import Issued, RegisteredMember
from morgand.state.hosts import HostState
from morgand.state.roles import Assignment

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def member(name: str) -> RegisteredMember:
    return RegisteredMember(name, name, "machine", NOW, (Issued(f"{ord(name):x}", NOW + timedelta(days=30)),))


def voter(name: str, state: VoterState = VoterState.VOTER, of: str = "old") -> VoterRecord:
    return VoterRecord(name, f"https://{name}:4", f"https://{name}:3", state, of)


def truth() -> dict[str, bytes]:
    """Hosts a, b and c; a and b vote, c learns; b leads."""
    values: dict[str, Any] = {
        keys.EPOCH: 41,
        keys.ELECTION: ElectionRecord("b", 40),
        keys.BEATS: "old key",
        keys.AUTHORITY: "authority",
        keys.config("x"): 1,
        keys.api_key("k"): 1,
        keys.invitation("i"): 1,
        keys.revoked("ff"): {"host": "z"},
        keys.PATRONI_LEADER: "b",
        keys.PATRONI_SYNC: "b, a",
        keys.PATRONI_MEMBERS + "b": "b",
        keys.TAKEOVER: "b",
    }
    for name, state in {"a": VoterState.VOTER, "b": VoterState.VOTER, "c": VoterState.LEARNER}.items():
        values[keys.host(name)] = HostRecord(name, name, "192.0.2.1", HostState.FENCED, draining=True)
        values[keys.member(name)] = member(name)
        values[keys.voter(name)] = voter(name, state)
        values |= {where(name): 1 for where in (keys.profile, keys.status, keys.lease)}
        values[keys.assignment("llm", "main", name)] = Assignment("llm", "main", name, "llama", 7, "x")
    return {key: codec.encode(value) for key, value in values.items()}


ANEW = voter("a", of="")
SURVIVOR = Survivor(member("a"), ANEW)


def test_only_the_survivor_is_left() -> None:
    """Its roles, the settings, keys and the authority stay; everybody else's records are gone."""
    kept = recovered(truth(), SURVIVOR, "new key")
    assert sorted(kept) == sorted(
        [
            keys.EPOCH, keys.BEATS, keys.AUTHORITY, keys.config("x"), keys.api_key("k"), keys.host("a"),
            keys.member("a"), keys.profile("a"), keys.voter("a"), keys.assignment("llm", "main", "a"),
            *(keys.revoked(serial) for serial in ("61", "62", "63", "ff")),
        ]
    )  # fmt: skip
    assert [one.host for one in voters(kept)] == ["a"]
    assert [(one.host, one.epoch) for one in assigned(kept)] == [("a", 41 + EPOCH_LEAP)]
    assert others(kept, "a") == {}
    host = codec.decode(HostRecord, kept[keys.host("a")], key="")
    assert (host.state, host.draining) == (HostState.ALIVE, False)


def test_nothing_of_before_counts() -> None:
    """No lost host can have come as far as the epoch it goes on in; heartbeats are signed otherwise; nobody leads."""
    kept = recovered(truth(), SURVIVOR, "new key")
    assert codec.decode(int, kept[keys.EPOCH], key="") == 41 + EPOCH_LEAP
    assert codec.decode(str, kept[keys.BEATS], key="") == "new key"
    assert keys.ELECTION not in kept
    assert codec.decode(VoterRecord, kept[keys.voter("a")], key="") == ANEW


def test_the_later_of_two_counts() -> None:
    """The etcd of a host that ceased to vote, and was switched off before it could forget that, is out of date."""
    later = {**truth(), keys.EPOCH: codec.encode(42)}
    assert outdated(truth(), later)
    assert not outdated(later, truth())
    assert not outdated(truth(), truth())
    assert not outdated(truth(), {})


def test_a_recovery_that_is_done_again_is_one_too() -> None:
    once = recovered(truth(), SURVIVOR, "new key")
    again = recovered(once, SURVIVOR, "newer key")
    assert codec.decode(int, again[keys.EPOCH], key="") > codec.decode(int, once[keys.EPOCH], key="")
    assert again.keys() == once.keys()


@pytest.mark.parametrize(
    ("count", "mine", "answers", "words"),
    [
        (3, True, {}, None),
        (3, False, {}, None),
        (3, True, {"b": False}, "this host and b can decide, with 2 of 3 voters"),
        (3, False, {"b": False}, None),  # its own etcd is damaged, so one of two is not enough
        (3, False, {"b": False, "c": False}, "b and c can decide, with 2 of 3"),
        (3, True, {"b": True}, "has its quorum: b can decide"),
        (5, True, {"b": False}, None),
        (5, True, {"b": False, "c": False}, "this host and b and c can decide"),
        (1, True, {}, "this host can decide, with 1 of 1"),
        (1, False, {}, None),  # the only voter was another host, or this one's data is damaged
        (1, False, {"b": True}, "has its quorum"),
    ],
)
def test_it_is_refused_while_the_voters_are_not_lost(
    count: int,
    mine: bool,
    answers: dict[str, bool],
    words: str | None,
) -> None:
    found = objection(answers, voters=count, mine=mine)
    assert (found is None) == (words is None)
    if found is not None:
        assert words is not None
        assert words in found.reason
        assert "morgand start" in found.remedy
