"""Stories in which something goes wrong, each bug that one of them found, and bugs that they must find.

CI plays two thousand of them, ``make simulate`` ten thousand; ``python -m tests.simulation --seed N`` tells one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pytest

from morgand.base.errors import MorganError
from morgand.detector import detector, link, suspicion
from morgand.peers import server
from morgand.state.roles import Assignment
from tests.simulation.many import play_all
from tests.simulation.story import Fault, Kind, Story, story_of
from tests.simulation.world import Broken, play

BLOCK, BLOCKS = 1000, 10
IN_CI = 2  # of these blocks
WITHIN = 200  # seeds, until a planted bug is found


@pytest.mark.parametrize(
    "block", [pytest.param(one, marks=() if one < IN_CI else pytest.mark.slow) for one in range(BLOCKS)]
)
def test_whatever_goes_wrong_no_law_is_broken_and_everything_is_well_again(block: int) -> None:
    counts = play_all(range(block * BLOCK, (block + 1) * BLOCK))
    assert not counts.broken, "\n\n".join(list(counts.broken.values())[:3])
    assert counts.actions > 50 * BLOCK
    assert counts.fenced > BLOCK / 4


def test_a_crash_is_survived() -> None:
    """Whoever is gone is given up, and its roles are elsewhere; where it was the leader somebody else leads."""
    faults = [Fault(3.0, Kind.CRASH, 0.0, host) for host in "abc"]
    outcomes = [play(Story(1, "abc", "abc", (fault,), 8.0, revive=False)) for fault in faults]
    assert [one.fenced for one in outcomes] == [1, 1, 1]
    assert sorted(one.elections for one in outcomes) == [1, 1, 2]


def test_the_same_seed_is_the_same_story() -> None:
    assert [play(story_of(seed)) for seed in range(5)] == [play(story_of(seed)) for seed in range(5)]


# --- bugs that were found ------------------------------------------------------------------------

FOUND = {
    135: "a copy of the truth that was read anew fell behind the watch, and never heard what it had skipped",
    18: "work for a role that was taken away meanwhile was acknowledged",
    431: "a host that was dead when that was decided, and well when it was written, was fenced with its lease",
    1063: "the first lease of a detector that was started again was taken for the one before, and used unread",
    822: "a leader that stood still fenced by what it had seen before",
    507: "with one voter gone, the other two granted a host its lease by turns, and never at the same time",
    719: "the same, for a host that had been fenced",
    827: "a leader that could not write its plan tried again half a minute later",
}


@pytest.mark.parametrize("seed", FOUND, ids=lambda seed: f"{seed}: {FOUND[seed]}")
def test_what_was_found_once_is_not_found_again(seed: int) -> None:
    play(story_of(seed))


# --- bugs that are planted -----------------------------------------------------------------------


def caught(*laws: str) -> int | None:
    """The first seed that breaks one of these laws; none of ``WITHIN`` does in what is not broken."""
    for seed in range(WITHIN):
        try:
            play(story_of(seed))
        except Broken as err:
            if any(law in str(err).splitlines()[0] for law in laws):
                return seed
    return None


def everywhere(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    for module in (suspicion, link, detector):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, value)


def test_a_vote_that_counts_too_late_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere(monkeypatch, "VOTE_S", 1000.0)
    everywhere(monkeypatch, "HOLD_S", 0.0)
    assert caught("is fenced while it holds its lease") is not None


def test_a_receiver_that_takes_any_epoch_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def trust(role: str, own: Assignment | None, asked_epoch: int) -> MorganError | None:
        return None

    monkeypatch.setattr(server, "refuse", trust)
    assert caught("admits epoch", "in epoch", "while it is fenced") is not None


def test_a_lease_that_outlasts_the_patience_of_the_others_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere(monkeypatch, "LEASE_S", 4.0)
    assert caught("is fenced while it holds its lease") is not None


def test_a_leader_that_asks_no_majority_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def alone(suspect: str, voters: Iterable[str], against: Collection[str]) -> bool:
        return True

    everywhere(monkeypatch, "agreed", alone)
    assert caught("is fenced while it holds its lease") is not None
