"""What the laboratory concludes from what clients were told and what servers did."""

from __future__ import annotations

from tests.lab.client import Said, compared
from tests.lab.relay import Held
from tests.lab.writable import Sample, rivals, together


def said(text: str, acknowledged: float | None = 1.0) -> Said:
    return Said(text, text, 0.0, acknowledged, 1)


def test_what_was_acknowledged_is_compared_with_what_is_stored() -> None:
    """What was never acknowledged may be there or not; what was has to be there once, in its order."""
    told = [said("1"), said("2"), said("3", None), said("4", 7.5), said("5")]
    assert compared(told, ["1", "2", "3", "4", "5"]).good
    assert compared(told, ["1", "2", "4", "5"]).good
    assert compared(told, ["1", "2", "5"]).lost_at == (7.5,)
    assert compared(told, ["1", "2", "2", "4", "5"]).doubled == 1
    assert compared(told, ["1", "4", "2", "5"]).disordered == 2
    assert not compared([said("1", None)], ["1"]).good


def test_a_primary_may_be_followed_but_not_accompanied() -> None:
    """A commit that began before the successor acknowledged anything is no rival of it, however late it is told of."""
    first = [Sample("atlas", 1, 1.0, 1.1), Sample("atlas", 1, 2.0, 3.5), Sample("atlas", 1, 4.0, None)]
    second = [Sample("bolt", 2, 3.0, 3.1), Sample("bolt", 2, 4.0, 4.1)]
    assert rivals([*first, *second]) == []
    assert rivals([*first, *second, Sample("atlas", 1, 5.0, 5.1)]) == [
        "atlas acknowledged in timeline 1 what was begun after timeline 2 had"
    ]
    assert rivals([*first, Sample("bolt", 1, 9.0, 9.1)]) == ["timeline 1 on atlas, bolt"]


def test_two_out_of_recovery_at_once_are_timed() -> None:
    """Times out of recovery are runs of samples; those of one host do not count against each other."""
    atlas = [Sample("atlas", 1, at, None) for at in (1.0, 2.0, 3.0, 4.0, 20.0)]
    assert together(atlas) == []
    assert together([*atlas, *(Sample("bolt", 2, at, None) for at in (3.5, 4.5, 5.5))]) == [0.5]
    assert together([*atlas, *(Sample("bolt", 2, at, None) for at in (10.0, 11.0))]) == []


def test_frames_are_held_until_they_are_due() -> None:
    """Each for a time of its own; a later one may overtake it."""
    delays, sent = iter([0.5, 0.1]), list[bytes]()
    held = Held(lambda: next(delays))
    assert held.wait_s(1.0) is None
    held.put(1.0, sent.append, b"slow")
    held.put(1.1, sent.append, b"fast")
    assert held.due(1.15) == []
    assert [frame for _, frame in held.due(1.25)] == [b"fast"]
    assert held.wait_s(1.3) is not None
    assert [frame for _, frame in held.due(9.0)] == [b"slow"]
