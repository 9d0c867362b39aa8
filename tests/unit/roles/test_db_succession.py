"""Who becomes the database's primary, and what the store must not have changed for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from morgand.cluster import keys
from morgand.cluster.store import Item, Put, QuietSince, Unchanged
from morgand.roles.db import succession
from morgand.roles.db.patroni_keys import Patroni
from morgand.roles.db.spec import SPEC
from morgand.state.roles import Assignment

REVISION = 90


def one(part: str, host: str, engine: str = "postgresql") -> Assignment:
    return Assignment("db", part, host, engine, 7, "why")


def patroni(
    leader: str | None = None, sync: dict[str, Any] | None = None, failover: Any = None, config: Any = None,
    *, before: Any = None, claimed: bool = False,
) -> Patroni:  # fmt: skip
    """``before``: what is remembered of ``sync``; ``claimed``: Patroni has written there since."""
    values = {
        keys.PATRONI_LEADER: leader.encode() if leader else None,
        keys.PATRONI_SYNC: json.dumps(sync).encode() if sync is not None else None,
        keys.PATRONI_FAILOVER: json.dumps(failover).encode() if failover is not None else None,
        keys.PATRONI_CONFIG: json.dumps(config).encode() if config is not None else None,
    }
    items = {key: Item(key, value, 1, number) for number, (key, value) in enumerate(values.items(), 11) if value}
    if before is not None:
        items[keys.TAKEOVER] = Item(keys.TAKEOVER, json.dumps(before).encode(), 1, 9 if claimed else 12)
    return Patroni(items, REVISION)


PAIR = [one("primary", "a"), one("standby", "b"), one("replica", "c")]
SYNC = {"leader": "a", "sync_standby": "b"}
ALL = frozenset("bc")


ALONE = {"leader": "a", "sync_standby": None}


def taking_over(heir: str, before: dict[str, Any]) -> tuple[Put, ...]:
    """What Patroni itself writes when it takes over, and what stood there."""
    alone = json.dumps({"leader": heir, "sync_standby": None}, separators=(",", ":")).encode()
    return Put(keys.PATRONI_SYNC, alone), Put(keys.TAKEOVER, json.dumps(before).encode())


def places(passed: Any) -> list[tuple[str, str]]:
    return [(one.part, one.host) for one in passed.given]


def test_the_synchronous_standby_takes_over() -> None:
    """In one transaction that compares that the dead host is Patroni's leader and the standby is still synchronous."""
    passed = succession.takeover(patroni("a", SYNC), PAIR, "a", ALL)
    assert passed is not None
    assert places(passed) == [("primary", "b")]
    assert set(passed.taken) == {("db", "primary", "a"), ("db", "standby", "b")}
    assert passed.puts == taking_over("b", SYNC)
    assert set(passed.deletes) == {keys.PATRONI_LEADER, keys.PATRONI_FAILOVER}
    assert set(passed.compares) == {
        Unchanged(keys.PATRONI_LEADER, 11), Unchanged(keys.PATRONI_SYNC, 12), QuietSince("/assignments/db/", REVISION),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("view", "db", "alive", "why"),
    [
        (patroni("a", {"leader": "a", "sync_standby": None}), PAIR, ALL, "nobody is synchronous"),
        (patroni("a", {"leader": "c", "sync_standby": "b"}), PAIR, ALL, "it was synchronous with another"),
        (patroni("a"), PAIR, ALL, "nothing is known"),
        (patroni("a", SYNC), PAIR, frozenset("c"), "the standby is dead too"),
        (patroni("a", SYNC), [one("primary", "a"), one("replica", "c")], ALL, "the standby is not ours"),
        (patroni("a", {"leader": 1, "sync_standby": "b"}), PAIR, ALL, "the value cannot be read"),
        (patroni(None, SYNC), PAIR, ALL, "Patroni has no leader: it is choosing"),
        (patroni("a", SYNC), [one("primary", "a", "sqlite"), one("standby", "b")], ALL, "a file cannot be taken over"),
        (patroni("b", SYNC), [one("primary", "b"), one("standby", "a")], ALL, "the dead one is a standby"),
    ],
)
def test_a_primary_stays_where_it_is(view: Patroni, db: list[Assignment], alive: frozenset[str], why: str) -> None:
    """Nobody takes over who may lack something that was acknowledged, and no plan puts another in its place."""
    assert succession.takeover(view, db, "a", alive) is None, why
    assert SPEC.keeps("postgresql", "primary")
    assert not SPEC.keeps("postgresql", "standby")


def test_several_standbys_are_tried_in_order() -> None:
    """The one that is assigned as the standby first, then whoever lives of those that have everything."""
    passed = succession.takeover(patroni("a", {"leader": "a", "sync_standby": "c,b"}), PAIR, "a", ALL)
    assert passed is not None
    assert places(passed) == [("primary", "b")]
    passed = succession.takeover(patroni("a", {"leader": "a", "sync_standby": "b,c"}), PAIR, "a", frozenset("c"))
    assert passed is not None
    assert places(passed) == [("primary", "c")]


def test_patroni_may_have_been_faster() -> None:
    """It promoted another host before its old one was given up: the dead one gets nothing back."""
    passed = succession.takeover(patroni("b", SYNC), PAIR, "a", ALL)
    assert passed is not None
    assert (places(passed), passed.puts, passed.deletes) == ([("primary", "b")], (), ())


def test_patroni_leads_where_the_assignment_has_not_followed_yet() -> None:
    """The dead host is Patroni's leader though the assignment names another: that one is promoted again."""
    view = patroni("b", {"leader": "b", "sync_standby": "a"})
    passed = succession.takeover(view, PAIR, "b", frozenset("ac"))
    assert passed is not None
    assert (passed.given, passed.taken) == ((), ())
    assert passed.puts == taking_over("a", {"leader": "b", "sync_standby": "a"})


def test_an_heir_that_dies_too_is_followed_by_another() -> None:
    """By one that had everything when the primary was given up, as long as the heir has not taken over."""
    before = {"leader": "z", "sync_standby": "a,c"}
    view = patroni(None, ALONE, before=before)
    passed = succession.takeover(view, PAIR, "a", ALL)
    assert passed is not None
    assert places(passed) == [("primary", "c")]
    assert passed.puts == taking_over("c", before)
    assert {Unchanged(keys.PATRONI_LEADER, 0), Unchanged(keys.PATRONI_SYNC, 12)} <= set(passed.compares)
    assert succession.takeover(patroni("a", ALONE, before=before), PAIR, "a", ALL) is None
    assert succession.takeover(patroni(None, ALONE, before=before, claimed=True), PAIR, "a", ALL) is None
    assert succession.takeover(view, PAIR, "a", frozenset("b")) is None


def test_nobody_believes_a_primary_that_was_given_up() -> None:
    """Patroni's failsafe mode ends in the transaction that gives it up, with the other settings as they were."""
    passed = succession.takeover(patroni("a", SYNC, config={"ttl": 20, "failsafe_mode": True}), PAIR, "a", ALL)
    assert passed is not None
    assert Put(keys.PATRONI_CONFIG, b'{"failsafe_mode":false,"ttl":20}') in passed.puts
    assert Unchanged(keys.PATRONI_CONFIG, 14) in passed.compares


@pytest.mark.parametrize(
    ("leader", "config", "away", "on"),
    [
        ("b", {"ttl": 20, "failsafe_mode": False}, False, True),
        ("b", {"ttl": 20}, False, True),
        ("b", {"failsafe_mode": False}, True, False),
        (None, {"failsafe_mode": False}, False, False),
        ("b", {"failsafe_mode": True}, False, False),
        ("b", None, False, False),
        ("b", ["not", "settings"], False, False),
    ],
)
def test_failsafe_mode_returns_when_nobody_is_away(leader: str | None, config: Any, away: bool, on: bool) -> None:
    """Once a primary leads, and only if it was off."""
    armed = succession.rearm(patroni(leader, config=config), away=away)
    assert (armed is not None) is on
    if armed is not None:
        assert json.loads(armed[1].value) == {**config, "failsafe_mode": True}
        assert Unchanged(keys.PATRONI_CONFIG, 14) in armed[0]


def test_assignments_follow_patroni() -> None:
    """The two hosts change places; an unknown host, or none, changes nothing."""
    passed = succession.follow(patroni("c"), PAIR)
    assert passed is not None
    assert places(passed) == [("primary", "c"), ("replica", "a")]
    assert set(passed.taken) == {("db", "primary", "a"), ("db", "replica", "c")}
    for leader in ("a", "z", None):
        assert succession.follow(patroni(leader), PAIR) is None
    assert succession.follow(patroni("b"), [one("primary", "a", "sqlite"), one("standby", "b")]) is None


def test_a_standby_that_is_left_alone_becomes_the_primary() -> None:
    """After the others were given up by hand there is no primary to follow; nor while a host that is not ours leads."""
    passed = succession.follow(patroni("b"), [one("standby", "b"), one("replica", "c")])
    assert passed is not None
    assert places(passed) == [("primary", "b")]
    assert passed.taken == (("db", "standby", "b"),)
    assert succession.follow(patroni("a"), [one("standby", "b")]) is None


def test_a_host_that_leaves_hands_over_first() -> None:
    """To the synchronous standby, unless that leaves too; once, and only while it leads."""
    asked = succession.relieve(patroni("a", SYNC), PAIR, frozenset("a"))
    assert asked is not None
    assert asked[1] == (Put(keys.PATRONI_FAILOVER, b'{"leader":"a","member":"b"}'),)
    assert set(asked[0]) == {Unchanged(keys.PATRONI_FAILOVER, 0), Unchanged(keys.PATRONI_SYNC, 12)}
    assert succession.relieve(patroni("a", SYNC), PAIR, frozenset("ab")) is None
    assert succession.relieve(patroni("a", SYNC), PAIR, frozenset("c")) is None
    assert succession.relieve(patroni("a", SYNC, {"leader": "a", "member": "b"}), PAIR, frozenset("a")) is None
    assert succession.relieve(patroni("b", SYNC), PAIR, frozenset("a")) is None
    again = succession.relieve(patroni("a", SYNC, {}), PAIR, frozenset("a"))
    assert again is not None, "Patroni leaves an order that was carried out there, empty"
    late = succession.relieve(patroni("b", {"leader": "b", "sync_standby": "a"}), PAIR, frozenset("b"))
    assert late is not None, "it leads though the assignment has not followed, or never will"
    assert late[1] == (Put(keys.PATRONI_FAILOVER, b'{"leader":"b","member":"a"}'),)


def test_a_handover_does_not_wait_for_what_the_primary_said_in_failsafe_mode() -> None:
    """That mode ends with the order, and returns when the order is no more."""
    asked = succession.relieve(patroni("a", SYNC, config={"ttl": 20, "failsafe_mode": True}), PAIR, frozenset("a"))
    assert asked is not None
    assert json.loads(asked[1][1].value) == {"ttl": 20, "failsafe_mode": False}
    assert Unchanged(keys.PATRONI_CONFIG, 14) in asked[0]
    config, order = {"failsafe_mode": False}, {"leader": "a", "member": "b"}
    assert succession.rearm(patroni("a", SYNC, order, config=config), away=False) is None
    assert succession.rearm(patroni("b", SYNC, {}, config=config), away=False) is not None


def test_a_file_passes_on_to_postgresql() -> None:
    """When its host asks, what it copied to is still the primary, and a synchronous standby has it too, or none can."""
    db = [one("primary", "a", "sqlite"), one("standby", "b"), one("replica", "c")]
    request = Item(keys.MOVE, b'{"target":"b","marker":"m"}', 5, 6)
    synced = {"leader": "b", "sync_standby": "c"}
    passed = succession.moved(patroni("b", synced), db, request)
    assert passed is not None
    assert {Unchanged(keys.PATRONI_LEADER, 11), Unchanged(keys.PATRONI_SYNC, 12)} <= set(passed.compares)
    assert succession.moved(patroni("b"), db, request) is None
    assert succession.moved(patroni("b", {"leader": "b", "sync_standby": None}), db, request) is None
    alone = Item(keys.MOVE, b'{"target":"b","marker":"m","alone":true}', 5, 6)
    assert succession.moved(patroni("b"), db, alone) is not None
    assert [(given.part, given.host, given.engine) for given in passed.given] == [("primary", "b", "postgresql")]
    assert set(passed.taken) == {("db", "primary", "a"), ("db", "standby", "b")}
    assert passed.puts == (Put(keys.MOVED, b'"m"'), Put(keys.MOVE, b"null"))
    assert Unchanged(keys.MOVE, 6) in passed.compares
    assert succession.moved(patroni("b"), db, Item(keys.MOVE, b"null", 5, 6)) is None
    assert succession.moved(patroni("c"), db, alone) is None
    assert succession.moved(patroni("b"), db[:1], alone) is None
    assert succession.moved(patroni("b"), PAIR, alone) is None


def test_nobody_hands_over_to_a_better_host_while_another_is_lost() -> None:
    """Who was lost before the order was given is not missed."""
    ordered = patroni("a", SYNC, {"leader": "a", "member": "b"})
    found = succession.needless(ordered, frozenset(), {"c": 20, "d": 3})
    assert found == succession.Withdrawal((Unchanged(keys.PATRONI_FAILOVER, 13),), (), (keys.PATRONI_FAILOVER,))
    assert succession.needless(ordered, frozenset(), {"d": 3}) is None
    assert succession.needless(ordered, frozenset("a"), {"c": 20}) is None, "its host leaves"
    assert succession.needless(patroni("b", SYNC, {"leader": "a", "member": "b"}), frozenset(), {"c": 20}) is None
    assert succession.needless(patroni("a", SYNC), frozenset(), {"c": 20}) is None


def test_an_order_that_nobody_can_carry_out_is_withdrawn() -> None:
    order = {"leader": "a", "member": "b"}
    found = succession.withdrawal(patroni(None, SYNC, order), frozenset("a"))
    assert found == succession.Withdrawal((Unchanged(keys.PATRONI_FAILOVER, 13),), (), (keys.PATRONI_FAILOVER,))
    assert succession.withdrawal(patroni(None, SYNC, order), frozenset("c")) is None
    assert succession.withdrawal(patroni("b", SYNC, order), frozenset("a")) is None
    assert succession.withdrawal(patroni(None, SYNC), frozenset("a")) is None


def test_an_heir_that_does_not_take_over_leaves_it_to_the_others() -> None:
    """Whoever had everything may again, as long as nobody has taken over."""
    before = {"leader": "z", "sync_standby": "a,c"}
    found = succession.withdrawal(patroni(None, ALONE, before=before), frozenset("z"))
    assert found is not None
    assert found.puts == (Put(keys.PATRONI_SYNC, json.dumps(before).encode()),)
    assert found.deletes == (keys.TAKEOVER,)
    assert set(found.compares) == {
        Unchanged(keys.PATRONI_LEADER, 0), Unchanged(keys.PATRONI_SYNC, 12), Unchanged(keys.TAKEOVER, 12),
    }  # fmt: skip
    assert succession.withdrawal(patroni("a", ALONE, before=before), frozenset("z")) is None
    assert succession.withdrawal(patroni(None, ALONE, before=before, claimed=True), frozenset("z")) is None
