"""The arithmetic of suspicion, as tables."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from morgand.detector.suspicion import (
    DAMPED_MAX_S,
    LEASE_S,
    STRETCH,
    WIRED_S,
    WIRELESS_S,
    agreed,
    lease_until,
    majority,
    patience_s,
)


@pytest.mark.parametrize(
    ("wired", "rtt_s", "gap_s", "flaps", "expected"),
    [
        (True, 0.001, 0.1, 0, WIRED_S),
        (False, 0.001, 0.1, 0, WIRELESS_S),
        (True, 0.05, 0.1, 0, WIRELESS_S),  # a slow link is no better for its cable
        (True, 0.001, 0.22, 0, 1.1),
        (True, 0.001, 9.0, 0, WIRED_S * STRETCH),
        (True, 0.001, 0.1, 1, 2.0),
        (True, 0.001, 0.1, 3, DAMPED_MAX_S),
        (True, 0.001, 0.1, 9, DAMPED_MAX_S),
    ],
)
def test_patience(wired: bool, rtt_s: float, gap_s: float, flaps: int, expected: float) -> None:
    assert patience_s(wired=wired, rtt_s=rtt_s, gap_s=gap_s, flaps=flaps) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("voters", "granted", "until"),
    [
        ("", {}, 0.0),
        ("a", {}, 10.0),  # the only voter needs nobody
        ("abc", {"b": 9.8}, 9.8),
        ("abc", {"b": 9.8, "c": 9.9}, 9.9),
        ("abc", {}, 0.0),
        ("bcd", {"b": 9.8, "c": 9.5, "d": 9.9}, 9.8),  # not a voter itself: two of three
        ("b", {"b": 9.6}, 9.6),
    ],
)
def test_a_lease_lasts_as_long_as_a_majority_keeps_its_promises(
    voters: str, granted: dict[str, float], until: float
) -> None:
    assert lease_until("a", voters, granted, 10.0) == pytest.approx(
        until + LEASE_S if until else LEASE_S * bool(voters)
    )


@pytest.mark.parametrize(
    ("suspect", "voters", "against", "expected"),
    [
        ("c", "abc", "a", False),  # one bad link
        ("c", "abc", "ab", True),
        ("d", "abc", "ab", True),
        ("d", "abc", "a", False),
        ("b", "a", "a", True),
        ("a", "a", "b", False),  # the only voter is nobody's to give up
        ("c", "abc", "ac", False),  # nobody votes against itself
        ("e", "abcde", "ab", False),
        ("e", "abcde", "abc", True),
        ("c", "abc", "ax", False),  # only voters count
    ],
)
def test_agreement(suspect: str, voters: str, against: str, expected: bool) -> None:
    assert agreed(suspect, voters, set(against)) is expected


@given(st.integers(1, 7), st.data())
def test_whoever_is_agreed_to_be_dead_has_no_majority_of_promises(count: int, data: st.DataObject) -> None:
    """A voter either promises or votes against: the two majorities cannot both be there."""
    voters = [f"v{number}" for number in range(count)]
    suspect = data.draw(st.sampled_from([*voters, "other"]))
    against = data.draw(st.sets(st.sampled_from(voters)))
    promised = {one for one in voters if one not in against} | {suspect}
    if agreed(suspect, voters, against):
        assert len(promised & set(voters)) < majority(count)


def test_majorities() -> None:
    assert [majority(count) for count in range(1, 6)] == [1, 2, 2, 3, 3]
    assert all(2 * majority(one) > one for one in itertools.chain(range(1, 50)))
