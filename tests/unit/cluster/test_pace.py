"""How long answers may take: times in, deadlines out."""

from __future__ import annotations

import pytest

from morgand.cluster.pace import LONGEST_S, SHORTEST_S, STAGGER_S, Pace


def after(*took_s: float) -> Pace:
    pace = Pace()
    for seconds in took_s:
        pace.took(seconds)
    return pace


def test_quick_voters_are_given_up_soon() -> None:
    for pace in (Pace(), after(0.02), after(*[0.05] * 20)):
        assert (pace.deadline_s, pace.stagger_s) == (SHORTEST_S, STAGGER_S)


def test_slow_voters_are_given_time() -> None:
    """More than an answer takes, also where some take longer than others."""
    assert 0.5 < after(*[0.5] * 5).deadline_s < 1.5
    assert after(*[0.1, 0.7] * 10).deadline_s > 0.7
    assert after(*[1.5] * 5).deadline_s == LONGEST_S


@pytest.mark.parametrize("quick_s", [0.01, 0.1])
def test_what_was_slow_is_forgotten(quick_s: float) -> None:
    assert after(*[1.0] * 20, *[quick_s] * 30).deadline_s == SHORTEST_S


def test_as_long_as_nobody_answers_more_time_is_given() -> None:
    """Else a store of which every answer takes a little longer than the deadline would never be reached again."""
    pace = Pace()
    deadlines = []
    for _ in range(6):
        deadlines.append(pace.deadline_s)
        pace.missed()
    assert deadlines == [0.4, 0.8, 1.6, 2.0, 2.0, 2.0]
    pace.took(0.02)
    assert pace.deadline_s == SHORTEST_S
