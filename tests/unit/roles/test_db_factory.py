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
from morgand.roles.db.factory import DatabaseFactory
from morgand.state.hosts import HostState, PeerHealth, Profile
from morgand.state.roles import Assignment
from morgand.storage.database import Database, sqlite_url
from tests.fakes.clusters import profile
from tests.fakes.storage import HandClock

FENCED, ALIVE = HostState.FENCED, HostState.ALIVE
SIGHTS = {"b": PeerHealth(quiet=True), "c": PeerHealth()}


@pytest.fixture
async def home(tmp_path: Path) -> DatabaseFactory:
    """Of host a; b has the primary, and is not heard just now."""
    clock, store = HandClock(), LocalStore(StoreFile(tmp_path), StoreContent(0, []))
    mirror = Mirror(store, clock)
    primary = Assignment("db", "primary", "b", "postgresql", 1, "test")
    members = [Put(keys.member(one), codec.encode(one)) for one in "abc"]
    await store.txn([], [Put(keys.assignment(*primary.slot), codec.encode(primary)), *members])
    await mirror.load()
    return made(tmp_path, store, mirror)


def made(tmp_path: Path, store: LocalStore, mirror: Mirror) -> DatabaseFactory:
    return DatabaseFactory(
        "a", tmp_path, Database(sqlite_url(tmp_path / "x")), copy=Database(sqlite_url(tmp_path / "y")),
        membership=lambda: None, voters=voters, profile=here, term=lambda _: None, sight=SIGHTS.get, seen=asyncio.Event,
        store=store, mirror=mirror, clock=HandClock(),
    )  # fmt: skip


def voters() -> list[Endpoint]:
    return [Endpoint(f"https://{one}", one) for one in "bca"]


def here() -> Profile:
    return profile()


async def test_its_own_voter_is_asked_first_and_that_of_the_primary_last(home: DatabaseFactory) -> None:
    """The one fails when this host does, the other just when everybody has to decide."""
    assert [one.host_id for one in home.voters()] == ["a", "c", "b"]


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
    assert made(tmp_path, store, mirror).fenced() == fenced


async def test_who_may_be_gone_is_what_the_detector_sees(home: DatabaseFactory) -> None:
    assert home.quiet() == {"b"}
