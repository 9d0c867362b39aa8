"""Leadership, the fence, and the planner's loop over a real local store."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from morgand.admin.preview import preview
from morgand.base.clock import SystemClock
from morgand.base.errors import ConfigError, Fenced, MorganError, NotFound, StoreConflict
from morgand.cluster import codec, election, keys
from morgand.cluster.fencing import commit_plan, fence
from morgand.cluster.local import LocalStore
from morgand.cluster.snapshot import Inputs, read_snapshot
from morgand.cluster.store import Item, Put
from morgand.cluster.view import view_of
from morgand.leader.leadership import superseded
from morgand.leader.planner import Planner
from morgand.roles.catalog import ELECTIONS, SPECS
from morgand.scheduler.plan import plan
from morgand.state.hosts import HostState
from tests.fakes.clusters import MODELS, profile, where

INPUTS = Inputs(SPECS, MODELS, {}, elections=ELECTIONS)


async def joined(store: LocalStore, name: str, ram_gb: float = 16) -> None:
    record = codec.HostRecord(name, name, "192.0.2.1")
    await store.txn(
        [], [Put(keys.host(name), codec.encode(record)), Put(keys.profile(name), codec.encode(profile(ram_gb)))]
    )


async def test_every_leadership_has_a_higher_epoch(tmp_path: Path) -> None:
    """Across elections, across restarts, and when a new host id finds an old one's key."""
    epochs = []
    for name in ("a", "a", "b"):
        store = await LocalStore.open(tmp_path)
        epochs.append((await election.campaign(store, name)).epoch)
        await store.close()
    store = await LocalStore.open(tmp_path)
    lead = await election.campaign(store, "b")
    await election.resign(store, lead)
    assert await election.current(store) is None
    epochs += [lead.epoch, (await election.campaign(store, "c")).epoch]
    assert epochs == sorted(set(epochs))


class Shared(LocalStore):
    """A store that several hosts write to."""

    @property
    def alone(self) -> bool:
        return False


async def test_a_leader_is_left_alone_until_it_is_lost_or_resigns(tmp_path: Path) -> None:
    """Whoever waits takes over with a higher epoch, and the old leader's writes are refused from then on."""
    store = await Shared.open(tmp_path)
    first = await election.campaign(store, "a")
    gone = asyncio.Event()

    async def lost(leader: str) -> None:
        assert leader == "a"
        await gone.wait()

    waiting = asyncio.ensure_future(election.campaign(store, "b", lost))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    gone.set()
    second = await asyncio.wait_for(waiting, 30)
    assert (second.host, second.epoch) == ("b", first.epoch + 1)
    with pytest.raises(StoreConflict):
        await store.txn([first.fence()], [Put("/x", b"1")])
    waiting = asyncio.ensure_future(election.campaign(store, "a"))
    await asyncio.sleep(0.05)
    await election.resign(store, second)
    assert (await asyncio.wait_for(waiting, 30)).epoch == second.epoch + 1


async def test_a_plan_of_an_ended_epoch_is_fenced(tmp_path: Path) -> None:
    store = await LocalStore.open(tmp_path)
    await joined(store, "a")
    old = await election.campaign(store, "a")
    made = plan(read_snapshot(await view_of(store), INPUTS))
    await election.campaign(store, "b")
    with pytest.raises(Fenced, match="b leads"):
        await commit_plan(store, old, made, 9)
    assert (await store.list(keys.ASSIGNMENTS))[0] == []


async def test_a_plan_made_from_an_older_world_conflicts(tmp_path: Path) -> None:
    store = await LocalStore.open(tmp_path)
    await joined(store, "a")
    lead = await election.campaign(store, "a")
    made = plan(read_snapshot(await view_of(store), INPUTS))
    await joined(store, "b")
    with pytest.raises(StoreConflict):
        await commit_plan(store, lead, made, 9)


async def test_the_planner_follows_changes_until_it_is_fenced(tmp_path: Path) -> None:
    """A host that joins gets its roles; a host that is drained loses them; a new leader ends the loop."""
    store = await LocalStore.open(tmp_path)
    await joined(store, "a")
    lead = await election.campaign(store, "a")
    running = asyncio.ensure_future(Planner(store, lead, lambda: INPUTS, SystemClock()).run())
    await until(store, lambda placed: placed.get("vectors/main") == "a")
    await joined(store, "b", 64)
    await until(store, lambda placed: placed.get("vectors/main") == "b")
    drained = codec.HostRecord("b", "b", "192.0.2.1", draining=True)
    await store.txn([], [Put(keys.host("b"), codec.encode(drained))])
    await until(store, lambda placed: placed.get("vectors/main") == "a")
    await election.campaign(store, "z")
    await joined(store, "c", 128)
    with pytest.raises(Fenced):
        await asyncio.wait_for(running, 30)
    await store.close()


async def test_a_role_that_moves_twice_never_has_the_same_epoch_twice(tmp_path: Path) -> None:
    """Under one leader too: a former holder's epoch is older than its successor's, and than its own next one."""
    store = await LocalStore.open(tmp_path)
    await joined(store, "a")
    await joined(store, "b", 64)
    planner = Planner(store, await election.campaign(store, "a"), lambda: INPUTS, SystemClock())
    epochs = []
    for draining in (False, True, False):
        await store.txn([], [Put(keys.host("b"), codec.encode(codec.HostRecord("b", "b", "x", draining=draining)))])
        placed = (await planner.cycle()).assignments
        epochs.append(next(one.epoch for one in placed if (one.role, one.part) == ("vectors", "main")))
    assert epochs == sorted(set(epochs))
    await store.close()


async def until(store: LocalStore, holds: object) -> None:
    async with asyncio.timeout(30):
        while True:
            snapshot = read_snapshot(await view_of(store), INPUTS)
            if holds(where(replace(plan(snapshot), assignments=snapshot.assignments))):  # type: ignore[operator]
                return
            await asyncio.sleep(0.01)


async def test_the_planner_can_be_cancelled_while_it_waits(tmp_path: Path) -> None:
    store = await LocalStore.open(tmp_path)
    lead = await election.campaign(store, "a")
    running = asyncio.ensure_future(Planner(store, lead, lambda: INPUTS, SystemClock()).run())
    await asyncio.sleep(0.05)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert running.cancelled()


async def test_shared_settings_overlay_a_hosts_own(tmp_path: Path) -> None:
    store = await LocalStore.open(tmp_path)
    for key, value in (("roles.db.prefer", ["a"]), ("llm.model", "qwen3-4b"), ("limits.queue", 5)):
        await store.txn([], [Put(keys.config(key), json.dumps(value).encode())])
    found = (read_snapshot(await view_of(store), INPUTS)).preferences
    assert found["db"].prefer == ("a",)
    assert found["llm"].model == "qwen3-4b"


async def test_a_preview_changes_nothing_and_refuses_nonsense(tmp_path: Path) -> None:
    store = await LocalStore.open(tmp_path)
    await joined(store, "a")
    await joined(store, "b", 64)
    snapshot = read_snapshot(await view_of(store), INPUTS)
    assert where(preview(snapshot, without=["b"]))["db/primary"] == "a"
    big = {"name": "big", "ram_mb": 262144, "gpus": [{"name": "RTX 3090", "vram_mb": 24576}]}
    assert where(preview(snapshot, with_profiles=[big]))["llm/main"] == "preview-1"
    with pytest.raises(NotFound, match="there are a, b"):
        preview(snapshot, without=["c"])
    with pytest.raises(ConfigError, match="did you mean 'ram_mb'"):
        preview(snapshot, with_profiles=[{"ram": 1}])


def test_a_value_of_another_kind_names_its_key() -> None:
    with pytest.raises(MorganError, match="/hosts/a"):
        codec.decode(codec.HostRecord, b"[]", key="/hosts/a")


def test_no_slash_from_outside_enters_a_key() -> None:
    assert keys.config("a/../b") == "/config/a%2F..%2Fb"


async def test_a_host_is_given_up_in_one_step_that_begins_an_epoch(tmp_path: Path) -> None:
    """Its roles are nobody's; done twice is done once; a host that got a new lease meanwhile is there again."""
    store = await LocalStore.open(tmp_path)
    await joined(store, "a")
    await joined(store, "b")
    lead = await election.campaign(store, "a")
    roles = [keys.assignment("cache", "primary", "b")]
    await store.txn([], [Put(roles[0], b"{}"), Put(keys.lease("b"), b"1")])
    host, lease = await store.get(keys.host("b")), await store.get(keys.lease("b"))
    assert host is not None
    assert lease is not None
    gone = codec.HostRecord("b", "b", "192.0.2.1", state=HostState.FENCED)
    await store.txn([], [Put(keys.lease("b"), b"2")])
    with pytest.raises(StoreConflict):
        await fence(store, lead, host, gone, roles, lease=lease.mod_revision)
    assert await store.get(roles[0]) is not None
    lease = await store.get(keys.lease("b"))
    assert lease is not None
    before = election.epoch_in(await store.get(keys.EPOCH), None)
    await fence(store, lead, host, gone, roles, lease=lease.mod_revision)
    assert await store.get(roles[0]) is None
    assert election.epoch_in(await store.get(keys.EPOCH), None) == before + 1
    with pytest.raises(StoreConflict):
        await fence(store, lead, host, gone, roles, lease=lease.mod_revision)
    await election.campaign(store, "c")
    host = await store.get(keys.host("b"))
    assert host is not None
    with pytest.raises(StoreConflict):  # an old leader gives nobody up
        await fence(store, lead, host, gone, [], lease=lease.mod_revision)


@pytest.mark.parametrize(
    ("epoch", "revision", "ended"),
    [(4, 10, False), (5, 20, False), (6, 21, True), (5, 3, True)],
    ids=["read before it began", "its own", "another leads", "moved to another store"],
)
def test_when_a_leadership_has_ended(epoch: int, revision: int, ended: bool) -> None:
    held = election.Leadership("a", 5, 20)
    item = Item(keys.ELECTION, codec.encode(codec.ElectionRecord("x", epoch)), 1, revision)
    assert superseded(item, held) is ended
