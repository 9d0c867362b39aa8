"""Safety of what the leader writes about the database's primary, whatever stands in the store."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from morgand.cluster import codec, keys
from morgand.cluster.codec import HostRecord
from morgand.cluster.store import Handoff, Item
from morgand.leader.db_primary_plan import OUTRANKED_S, STALE_S, PrimaryReading, PrimaryState, decide
from morgand.roles.db.patroni_keys import Patroni
from morgand.roles.db.succession import MoveRequest
from morgand.state.hosts import HostState
from morgand.state.roles import Assignment, RolePreference
from tests.fakes.clusters import host, sick

NAMES = "abcd"
PARTS = ("primary", "standby", "replica", "replica")

names = st.sampled_from(NAMES)
somebody = st.none() | names
syncs = st.builds(
    lambda leader, standbys: {"leader": leader, "sync_standby": ",".join(sorted(standbys)) or None},
    somebody, st.sets(names),
)  # fmt: skip


def item(key: str, value: bytes, revision: int = 5) -> Item:
    return Item(key, value, 1, revision)


@st.composite
def readings(draw: st.DrawFn) -> PrimaryReading:
    """Patroni's keys of any kind, hosts in any state, and assignments in any order."""
    leader = draw(somebody)
    values: dict[str, Any] = {
        keys.PATRONI_SYNC: draw(st.none() | syncs),
        keys.TAKEOVER: draw(st.none() | syncs),
        keys.PATRONI_FAILOVER: draw(st.none() | st.builds(lambda a, b: {"leader": a, "member": b}, somebody, somebody)),
        keys.PATRONI_CONFIG: draw(st.none() | st.builds(lambda on: {"failsafe_mode": on}, st.booleans())),
    }
    items = {key: item(key, json.dumps(value).encode()) for key, value in values.items() if value is not None}
    if leader is not None:
        items[keys.PATRONI_LEADER] = item(keys.PATRONI_LEADER, leader.encode())
    engine = draw(st.sampled_from(("postgresql", "sqlite")))
    placed = [
        Assignment("db", part, name, engine if part == "primary" else "postgresql", 1, "test")
        for part, name in zip(PARTS, draw(st.permutations(NAMES)), strict=True)
    ]
    states = {name: draw(st.sampled_from(HostState)) for name in NAMES}
    hosts = [host(name, draw(st.sampled_from((8, 64))), state=states[name], engines=("postgresql",)) for name in NAMES]
    asked = draw(st.none() | st.builds(MoveRequest, names, st.just("marker"), st.booleans()))
    return PrimaryReading(
        Patroni(items, 90), placed, item(keys.MOVE, codec.encode(asked)) if asked else None,
        [HostRecord(name, name, "", state=states[name], draining=draw(st.booleans())) for name in NAMES],
        written={name: draw(st.integers(1, 9)) for name in NAMES},
        hosts=[sick(one) if draw(st.booleans()) else one for one in hosts], preference=RolePreference(),
        now=draw(st.floats(0, 2 * OUTRANKED_S)),
    )  # fmt: skip


@given(readings())
def test_the_primary_passes_only_to_whom_patroni_chose(seen: PrimaryReading) -> None:
    for change in decide(seen, PrimaryState())[1]:
        if isinstance(change.write, Handoff):
            assert [one.host for one in change.write.given if one.part == "primary"] == [seen.patroni.leader]


@given(st.lists(readings(), min_size=1, max_size=4))
def test_an_order_to_hand_over_names_one_that_has_everything(story: list[PrimaryReading]) -> None:
    """And is given only where somebody leads and no other order stands."""
    state = PrimaryState()
    for seen in story:
        state, changes = decide(seen, state)
        for put in (put for change in changes for put in change.write.puts if put.key == keys.PATRONI_FAILOVER):
            order = json.loads(put.value)
            assert order["leader"] == seen.patroni.leader
            assert order["member"] in seen.patroni.synchronous
            assert seen.patroni.failover is None


@given(st.lists(readings(), min_size=1, max_size=4))
def test_everything_that_is_written_compares_what_it_was_decided_from(story: list[PrimaryReading]) -> None:
    """And there is at most one thing, but for failsafe mode, which may be switched on beside."""
    state = PrimaryState()
    for seen in story:
        state, changes = decide(seen, state)
        assert all(change.write.compares and change.cause for change in changes)
        assert len([change for change in changes if not change.quiet]) <= 1


@given(readings())
def test_an_heir_has_its_time(seen: PrimaryReading) -> None:
    """What keeps others from taking over goes when it has stood unchanged for that long, and not before."""
    state, _ = decide(seen, PrimaryState())
    for waited_s, goes in ((0.0, False), (STALE_S - 0.1, False), (STALE_S + 0.1, state.blocked is not None)):
        state, changes = decide(replace(seen, now=seen.now + waited_s), state)
        assert any(change.what.startswith("others may") for change in changes) is goes
