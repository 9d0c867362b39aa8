"""What a host's database is told of the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from morgand.cluster import codec, keys
from morgand.cluster.etcd import Endpoint
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import Put
from morgand.cluster.storefile import Content, StoreFile
from morgand.database_home import DatabaseHome
from morgand.state import Assignment, Profile, Sight
from morgand.storage.database import Database, sqlite_url
from tests.fakes.clusters import profile
from tests.fakes.storage import HandClock

SIGHTS = {"b": Sight(quiet=True), "c": Sight()}


@pytest.fixture
async def home(tmp_path: Path) -> DatabaseHome:
    """Of host a; b has the primary, and is not heard just now."""
    clock, store = HandClock(), LocalStore(StoreFile(tmp_path), Content(0, []))
    mirror = Mirror(store, clock)
    primary = Assignment("db", "primary", "b", "postgresql", 1, "test")
    members = [Put(keys.member(one), codec.encode(one)) for one in "abc"]
    await store.txn([], [Put(keys.assignment(*primary.slot), codec.encode(primary)), *members])
    await mirror.load()
    return DatabaseHome(
        "a", tmp_path, Database(sqlite_url(tmp_path / "x")), copy=Database(sqlite_url(tmp_path / "y")),
        membership=lambda: None, voters=voters, profile=here, term=lambda _: None, sight=SIGHTS.get, seen=asyncio.Event,
        store=store,
        mirror=mirror, clock=clock,
    )  # fmt: skip


def voters() -> list[Endpoint]:
    return [Endpoint(f"https://{one}", one) for one in "bca"]


def here() -> Profile:
    return profile()


async def test_its_own_voter_is_asked_first_and_that_of_the_primary_last(home: DatabaseHome) -> None:
    """The one fails when this host does, the other just when everybody has to decide."""
    assert [one.host_id for one in home.voters()] == ["a", "c", "b"]


async def test_who_may_be_gone_is_what_the_detector_sees(home: DatabaseHome) -> None:
    assert home.quiet() == {"b"}
