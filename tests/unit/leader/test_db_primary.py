"""The leader's duty to the database's primary, over a real local store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from morgand.cluster import codec, election, keys
from morgand.cluster.election import Leadership
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import Put
from morgand.leader.db_primary import PrimaryKeeper, ensure_secrets
from morgand.leader.db_primary_plan import AWAY_S, OUTRANKED_S, STALE_S
from morgand.roles.db.patroni_keys import holders_in, patroni_in, secrets_in
from morgand.state.hosts import Host, HostState
from morgand.state.roles import Assignment, RolePreference
from morgand.state.schema_version import OLDEST, Schema
from tests.fakes.clusters import host, sick
from tests.fakes.storage import HandClock


class Scene:
    """Hosts a (64 GB) and b (32 GB), with PostgreSQL's primary on b and its synchronous standby on a."""

    def __init__(self, store: LocalStore, held: Leadership) -> None:
        self.store, self.held, self.clock = store, held, HandClock()
        self.mirror = Mirror(store, self.clock)
        self.hosts: list[Host] = [host("a", 64), host("b", 32)]
        self.keeper = PrimaryKeeper(
            store, self.mirror, self.clock, hosts=lambda: self.hosts, preference=RolePreference,
        )  # fmt: skip

    async def put(self, **values: object) -> None:
        """Patroni's keys by their last names; a text is written as it is."""
        puts = [
            Put(keys.PATRONI + name, one.encode() if isinstance(one, str) else json.dumps(one).encode())
            for name, one in values.items()
        ]
        await self.store.txn([], puts)

    async def place(self, *placed: tuple[str, str]) -> None:
        ones = [Assignment("db", part, name, "postgresql", 1, "why") for part, name in placed]
        await self.store.txn([], [Put(keys.assignment(*one.slot), codec.encode(one)) for one in ones])

    async def record(self, name: str, state: HostState = HostState.ALIVE, schema: Schema = OLDEST) -> None:
        record = codec.HostRecord(name, name, "192.0.2.1", state=state, schema=schema)
        await self.store.txn([], [Put(keys.host(name), codec.encode(record))])

    async def look(self) -> None:
        await self.mirror.load()
        await self.keeper._poll(self.held)
        await self.mirror.load()

    def places(self) -> set[tuple[str, str]]:
        return {(one.part, one.host) for one in holders_in(self.mirror.view)}

    def order(self) -> tuple[str | None, str | None] | None:
        found = patroni_in(self.mirror).failover
        return (found.leader, found.member) if found else None


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    store = await LocalStore.open(tmp_path)
    made = Scene(store, await election.campaign(store, "a"))
    await made.place(("primary", "b"), ("standby", "a"))
    await made.put(leader="b", sync={"leader": "b", "sync_standby": "a"})
    yield made
    await store.close()


async def test_the_assignment_follows_patroni_in_a_new_epoch(scene: Scene) -> None:
    before = election.epoch_in(await scene.store.get(keys.EPOCH), None)
    await scene.put(leader="a")
    await scene.look()
    assert scene.places() == {("primary", "a"), ("standby", "b")}
    assert {one.epoch for one in holders_in(scene.mirror.view)} == {before + 1}
    await scene.look()
    assert election.epoch_in(await scene.store.get(keys.EPOCH), None) == before + 1


async def test_a_better_host_takes_over_after_a_while(scene: Scene) -> None:
    """Only when it is synchronous, better by the margin, and has been both for some time without a break."""
    await scene.look()
    scene.clock.turn(OUTRANKED_S - 1)
    scene.hosts = [host("a", 64, state=HostState.SUSPECT), host("b", 32)]
    await scene.look()
    scene.hosts = [host("a", 64), host("b", 32)]
    await scene.look()
    scene.clock.turn(OUTRANKED_S - 1)
    await scene.look()
    assert scene.order() is None
    scene.clock.turn(1)
    await scene.look()
    assert scene.order() == ("b", "a")


async def test_the_best_takes_over_at_once(scene: Scene) -> None:
    """Not whoever is the standby by assignment, from whom it would take over later; nor one without an assignment, or
    that leaves."""
    scene.hosts += [host("c", 128), host("d", 256), host("e", 512, draining=True)]
    await scene.place(("replica", "c"), ("replica", "e"))
    await scene.put(sync={"leader": "b", "sync_standby": "a,c,d,e"})
    await scene.look()
    scene.clock.turn(OUTRANKED_S)
    await scene.look()
    assert scene.order() == ("b", "c")


async def test_a_better_host_waits_until_nobody_comes_or_goes(scene: Scene) -> None:
    """A handover stops writes for a moment, and another fault on top of it for longer. Who stays away for long is no
    reason."""
    pair = scene.hosts
    await scene.look()
    scene.clock.turn(OUTRANKED_S - 1)
    scene.hosts = [*pair, host("c", 8, state=HostState.FENCED)]
    for _ in range(2):
        await scene.look()
        scene.clock.turn(1)
    assert scene.order() is None
    scene.clock.turn(AWAY_S - 3)
    await scene.look()
    assert scene.order() is None
    scene.clock.turn(1)
    await scene.look()
    assert scene.order() == ("b", "a")


async def test_a_better_host_waits_while_others_join(scene: Scene) -> None:
    """Whoever grows a cluster goes on doing so, and looks closely."""
    pair = scene.hosts
    scene.hosts = [*pair, replace(host("c", 8), new=True)]
    await scene.look()
    scene.clock.turn(OUTRANKED_S)
    await scene.look()
    assert scene.order() is None
    scene.hosts = [*pair, host("c", 8)]
    for _ in range(2):
        await scene.look()
        scene.clock.turn(OUTRANKED_S)
    assert scene.order() == ("b", "a")


async def test_a_host_lost_before_the_handover_takes_the_order_back(scene: Scene) -> None:
    """It is given again in peace, whoever stays away; for one that leaves it stands."""
    pair = scene.hosts
    await scene.look()
    scene.clock.turn(OUTRANKED_S)
    await scene.look()
    assert scene.order() == ("b", "a")
    scene.hosts = [*pair, host("c", 8, state=HostState.FENCED)]
    await scene.record("c", HostState.FENCED)
    await scene.look()
    await scene.look()
    assert scene.order() is None
    scene.clock.turn(AWAY_S)
    for _ in range(3):
        await scene.look()
        assert scene.order() == ("b", "a")
    await scene.record("b", HostState.LEFT)
    await scene.record("c", HostState.FENCED)
    await scene.look()
    assert scene.order() == ("b", "a")


async def test_an_equal_host_takes_nothing_over(scene: Scene) -> None:
    scene.hosts = [host("a", 36), host("b", 32)]
    await scene.look()
    scene.clock.turn(10 * OUTRANKED_S)
    await scene.look()
    assert scene.order() is None


async def test_a_host_that_leaves_is_relieved_at_once(scene: Scene) -> None:
    scene.hosts = [host("b", 32)]
    await scene.record("b", HostState.LEFT)
    await scene.look()
    assert scene.order() == ("b", "a")


async def test_the_primary_leaves_a_sick_disk_at_once(scene: Scene) -> None:
    """But not to a standby whose disk is sick too."""
    full = sick(host("b", 32))
    scene.hosts = [sick(host("a", 64)), full]
    await scene.look()
    assert scene.order() is None
    scene.hosts = [host("a", 64), full]
    await scene.look()
    assert scene.order() == ("b", "a")


async def test_a_better_host_with_a_sick_disk_takes_nothing_over(scene: Scene) -> None:
    scene.hosts = [sick(host("a", 64)), host("b", 32)]
    await scene.look()
    scene.clock.turn(10 * OUTRANKED_S)
    await scene.look()
    assert scene.order() is None


async def test_a_better_host_with_an_older_program_takes_nothing_over(scene: Scene) -> None:
    """It may not be able to use the database any more; once it is updated, it does."""
    await scene.record("a", schema=Schema(2, 0))
    await scene.record("b", schema=Schema(3, 1))
    for _ in range(2):
        await scene.look()
        scene.clock.turn(OUTRANKED_S)
    assert scene.order() is None
    await scene.record("a", schema=Schema(3, 1))
    for _ in range(2):
        await scene.look()
        scene.clock.turn(OUTRANKED_S)
    assert scene.order() == ("b", "a")


async def test_an_order_that_nobody_carries_out_is_taken_back(scene: Scene) -> None:
    """It would keep everybody else from trying."""
    await scene.record("b", HostState.FENCED)
    await scene.store.txn([], [], [keys.PATRONI_LEADER])
    await scene.put(failover={"leader": "b", "member": "a"})
    await scene.look()
    scene.clock.turn(STALE_S - 1)
    await scene.look()
    assert scene.order() == ("b", "a")
    scene.clock.turn(1)
    await scene.look()
    assert scene.order() is None


async def test_an_heir_that_does_not_take_over_leaves_it_to_the_others(scene: Scene) -> None:
    """Patroni's key says again what it said when the primary was given up."""
    alone, before = b'{"leader":"a","sync_standby":null}', b'{"leader":"b","sync_standby":"a,c"}'
    taken = [Put(keys.PATRONI_SYNC, alone), Put(keys.TAKEOVER, before)]
    await scene.store.txn([], taken, [keys.PATRONI_LEADER])
    for waited_s, expected in ((STALE_S - 1, alone), (1, before)):
        await scene.look()
        scene.clock.turn(waited_s)
        await scene.look()
        item = await scene.store.get(keys.PATRONI_SYNC)
        assert item is not None
        assert item.value == expected
    assert await scene.store.get(keys.TAKEOVER) is None


async def test_failsafe_mode_returns_with_the_host_that_was_given_up(scene: Scene) -> None:
    """While it is away it could still tell the others that it is the primary."""
    scene.hosts = [host("a", 64, engines=("postgresql",)), host("b", 32, engines=("postgresql",))]
    await scene.put(leader="a", config={"ttl": 20, "failsafe_mode": False})
    await scene.record("b", HostState.FENCED)
    for expected in (False, True):
        await scene.look()
        await scene.look()
        item = scene.mirror.get(keys.PATRONI_CONFIG)
        assert item is not None
        assert json.loads(item.value) == {"ttl": 20, "failsafe_mode": expected}
        await scene.record("b", HostState.ALIVE)


async def test_passwords_are_made_once(scene: Scene) -> None:
    for _ in range(2):
        await ensure_secrets(scene.store, scene.held)
        await scene.mirror.load()
        found = secrets_in(scene.mirror)
        assert found is not None
        assert len({found.superuser, found.replication, found.rewind, found.application}) == 4
        assert found.application not in repr(found)
    again = secrets_in(scene.mirror)
    assert again == found
