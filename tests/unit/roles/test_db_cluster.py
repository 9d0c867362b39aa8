"""What a host's database is told of the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from morgand.cluster import codec, keys
from morgand.cluster.codec import HostRecord
from morgand.cluster.etcd import Endpoint
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import Put
from morgand.cluster.storefile import StoreContent, StoreFile
from morgand.roles.db.cluster import KnownCluster
from morgand.state.hosts import HostState, PeerHealth
from morgand.state.roles import Assignment
from tests.fakes.storage import HandClock

FENCED, ALIVE = HostState.FENCED, HostState.ALIVE
TERMS = {"db": 7}
SIGHTS = {"b": PeerHealth(quiet=True), "c": PeerHealth()}


@pytest.fixture
async def cluster(tmp_path: Path) -> KnownCluster:
    """Of host a; b has the primary, and is not heard just now."""
    clock, store = HandClock(), LocalStore(StoreFile(tmp_path), StoreContent(0, []))
    mirror = Mirror(store, clock)
    primary = Assignment("db", "primary", "b", "postgresql", 1, "test")
    members = [Put(keys.member(one), codec.encode(one)) for one in "abc"]
    await store.txn([], [Put(keys.assignment(*primary.slot), codec.encode(primary)), *members])
    await mirror.load()
    return known(mirror)


def known(mirror: Mirror) -> KnownCluster:
    return KnownCluster("a", mirror, voters, TERMS.get, SIGHTS.get, asyncio.Event)


def voters() -> list[Endpoint]:
    return [Endpoint(f"https://{one}", one) for one in "bca"]


async def test_its_own_voter_is_asked_first_and_that_of_the_primary_last(cluster: KnownCluster) -> None:
    """The one fails when this host does, the other just when everybody has to decide."""
    assert [one.host_id for one in cluster.voters()] == ["a", "c", "b"]


@pytest.mark.parametrize(
    ("hosts", "fenced"),
    [
        ({"b": (ALIVE, "192.0.2.2:7470")}, {}),
        ({"b": (FENCED, "192.0.2.2:7470"), "c": (ALIVE, "192.0.2.3:7470")}, {"b": "192.0.2.2"}),
        ({"b": (FENCED, "[2001:db8::2]:7470"), "c": (ALIVE, "")}, {"b": "2001:db8::2"}),
        ({"b": (FENCED, "192.0.2.2:7470"), "c": (ALIVE, "192.0.2.2:7480")}, {"b": ""}),  # two on one machine
        ({"b": (FENCED, "")}, {"b": ""}),
        ({"b": (FENCED, "nonsense"), "c": (FENCED, "somewhere:7470")}, {"b": "", "c": ""}),
    ],
)
async def test_who_was_given_up_is_told_with_an_address_that_is_its_own(
    tmp_path: Path, hosts: dict[str, tuple[HostState, str]], fenced: dict[str, str]
) -> None:
    store = LocalStore(StoreFile(tmp_path), StoreContent(0, []))
    mirror = Mirror(store, HandClock())
    records = [HostRecord(one, one, "", state=state, peer=peer) for one, (state, peer) in hosts.items()]
    await store.txn([], [Put(keys.host(one.id), codec.encode(one)) for one in records])
    await mirror.load()
    assert known(mirror).fenced() == fenced


async def test_who_may_be_gone_is_what_the_detector_sees(cluster: KnownCluster) -> None:
    assert cluster.quiet() == {"b"}


@pytest.mark.parametrize(("holder", "engine", "epoch"), [
    ("a", "postgresql", 7),
    ("a", "sqlite", None),  # a file serves still
    ("b", "postgresql", None),
])  # fmt: skip
async def test_the_epoch_is_that_of_its_own_part_in_postgresql(
    tmp_path: Path, holder: str, engine: str, epoch: int | None
) -> None:
    store = LocalStore(StoreFile(tmp_path), StoreContent(0, []))
    mirror = Mirror(store, HandClock())
    primary = Assignment("db", "primary", holder, engine, 1, "test")
    await store.txn([], [Put(keys.assignment(*primary.slot), codec.encode(primary))])
    await mirror.load()
    assert known(mirror).epoch() == epoch


async def test_patroni_says_who_leads_and_the_news_of_it_wake(tmp_path: Path) -> None:
    store = LocalStore(StoreFile(tmp_path), StoreContent(0, []))
    mirror = Mirror(store, HandClock())
    cluster = known(mirror)
    changed = cluster.changed()
    assert not cluster.leads()
    for leader, leads in ((b"b", False), (b"a", True)):
        await store.txn([], [Put(keys.PATRONI_LEADER, leader)])
        await mirror.load()
        assert cluster.leads() is leads
    assert changed.is_set()
