"""What the laboratory concludes from what it saw."""

from __future__ import annotations

from dataclasses import replace

from tests.lab.timeline import Look, doubles, first, longest_gap, pause, read, rivals, table, too_sure


def seen(at: float, leader: str | None, epoch: int, *roles: tuple[str, str, str, str, int]) -> Look:
    return Look(at, leader, {}, list(roles), epoch=epoch)


def test_a_status_is_read_by_name() -> None:
    """Ids become names; what nobody has a name for is a question mark."""
    role = {"role": "llm", "part": "main", "state": "ready", "epoch": 7}
    body = {
        "cluster": {"leader": "1", "epoch": 3, "quorum": {"tolerates": 1, "voters": [{}, {}, {}]}},
        "hosts": [{"id": "1", "name": "atlas", "state": "alive"}],
        "roles": [{**role, "host": "1"}, {**role, "host": "2"}],
        "database": {"engine": "postgresql", "standbys": [{"sync": True}, {"sync": False}]},
        "warnings": [],
    }
    found = read(5.0, body)
    assert (found.engine, found.copies) == ("postgresql", (True, False))
    assert (found.at, found.leader, found.epoch, found.tolerates) == (5.0, "atlas", 3, 1)
    assert found.roles == [("llm", "main", "atlas", "ready", 7), ("llm", "main", "?", "ready", 7)]


def test_the_first_look_that_holds_counts_from_the_fault() -> None:
    looks = [seen(at, "bolt" if at > 3 else "atlas", 1) for at in (1.0, 2.0, 3.0, 4.0, 5.0)]
    assert first(looks, 2.5, lambda look: look.leader == "bolt") == 1.5
    assert first(looks, 2.5, lambda look: look.leader == "comet") is None


def test_a_leader_has_an_epoch_to_itself() -> None:
    looks = [seen(1, "atlas", 1), seen(2, "bolt", 2), seen(3, None, 2), seen(4, "bolt", 2)]
    assert rivals(looks) == []
    assert rivals([*looks, seen(5, "comet", 2)]) == ["epoch 2 has leaders bolt, comet"]


def test_two_at_a_time_are_counted() -> None:
    """A part that moves is held once at a time; what many may have, and what only starts, does not count."""
    moved = [
        seen(1, "atlas", 1, ("llm", "main", "atlas", "ready", 4), ("llm", "main", "bolt", "starting", 5)),
        seen(2, "atlas", 1, ("llm", "main", "bolt", "ready", 5)),
        seen(3, "atlas", 1, ("core", "active", "atlas", "ready", 4), ("core", "active", "bolt", "ready", 4)),
    ]
    assert doubles(moved) == {}
    both = seen(4, "atlas", 1, ("llm", "main", "bolt", "ready", 5), ("llm", "main", "atlas", "ready", 4))
    assert doubles([*moved, both, both]) == {"llm/main": 2}


def test_the_longest_gap_is_between_neighbours() -> None:
    assert longest_gap([9.0, 1.0, 4.0]) == 5.0
    assert longest_gap([]) == longest_gap([1.0]) == 0.0


def test_a_pause_counts_from_its_beginning_until_it_ends_or_until_now() -> None:
    """What ended before the fault does not count; what lasts still does."""
    assert pause([0.0, 5.0, 5.5, 7.5, 8.0], since=5.2, until=8.1) == 2.0
    assert pause([0.0, 5.0, 5.5], since=5.2, until=9.5) == 4.0
    assert pause([0.0, 5.0, 9.0], since=6.0, until=9.1) == 4.0
    assert pause([0.0, 5.0, 9.0], since=6.0, until=8.0) == 3.0
    assert pause([], since=6.0, until=8.0) == 2.0


def test_the_table_has_least_middle_and_most() -> None:
    assert table({"llm": [3.0, 1.0, 2.0]}).splitlines()[1].split() == ["llm", "3", "1.00", "2.00", "3.00"]


def test_a_status_is_too_sure_when_it_warns_of_nothing_that_one_loss_would_cost() -> None:
    well = Look(1, "a", dict.fromkeys("abc", "alive"), [], 1, engine="postgresql", copies=(True, False), voters=3)
    alone = replace(well, hosts={"a": "alive"}, tolerates=0, engine="sqlite", copies=(), voters=1)
    assert too_sure([well, alone]) == []
    two = replace(well, tolerates=0, voters=2)
    assert too_sure([replace(two, warnings=("The loss of a or b would stop every decision.",))]) == []
    assert too_sure([two, replace(two, warnings=("llm is not placed: see it.",))]) == [
        "in 2 looks: 2 voters, of which none may be lost"
    ]
    assert too_sure([replace(well, copies=(False, False))]) == ["in 1 looks: no synchronous copy of the database"]
