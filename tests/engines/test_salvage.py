"""The data of a voter whose cluster is gone can be read, and nobody else hears of it."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path

import pytest

from morgand.base.errors import MorganError
from morgand.cluster.etcd import EtcdClient
from morgand.cluster.etcd_wire import Nothing
from morgand.cluster.store import Put
from morgand.cluster.switch import MOVED
from morgand.membership.salvage import salvage
from tests.engines.voters import STARTED_S, Town, answering, running

pytestmark = pytest.mark.engine
NETS = itertools.count(120 + os.getpid() % 50)
ETCD = ("etcd",)


async def filled(town: Town, count: int) -> None:
    """A cluster of ``count`` voters that lived, and of which nobody runs any more. A fourth host is a learner."""
    voters = [town.host(number) for number in range(1, count + 1)]
    initial = {voter.place.host_id: voter.place.peer_url for voter in voters}
    for voter in voters:
        voter.process.prepare(initial, existing=False)
    client = town.client()
    learner = town.host(4)
    async with running(voters):
        await answering(client, voters)
        store = town.store("h1", ["h1"])
        await store.txn([], [Put(MOVED, b"{}"), *(Put(f"/a/{number}", b"x" * 100) for number in range(600))])
        await added(client, learner.place.peer_url)
        await store.txn([], [Put("/last", b"1")])
        for voter in voters:  # that a write is settled they hear later, and write down later still
            assert await town.store("h1", [voter.place.host_id]).get("/last") is not None
            await client.ask(voter.endpoint, "maintenance/hash", {}, Nothing)  # of what is in its file
    await town.close()


async def added(client: EtcdClient, peer_url: str) -> None:
    """etcd takes nobody before its voters have known each other for five seconds."""
    async with asyncio.timeout(STARTED_S):
        while True:
            try:
                await client.add_member(peer_url, learner=True)
            except MorganError:
                await asyncio.sleep(0.1)
            else:
                return


async def test_a_surviving_voter_has_everything_that_was_acknowledged(tmp_path: Path) -> None:
    """Without the others, in spite of a learner, as often as it is asked; its own data stays as it was."""
    town = Town(tmp_path, next(NETS))
    await filled(town, 3)
    for name in ("h1", "h2"):
        place = town.voters[name].place
        before = {file: file.stat().st_mtime_ns for file in place.data.rglob("*")}
        for _ in range(2):
            found = await salvage(place, town.tls(place.folder), ETCD)
            assert found is not None
            assert len(found) == 601
            assert [item.value for item in found if item.key == "/last"] == [b"1"]
        assert {file: file.stat().st_mtime_ns for file in place.data.rglob("*")} == before
        assert not (place.folder / "salvage").exists()


async def test_a_host_that_never_voted_has_nothing(tmp_path: Path) -> None:
    town = Town(tmp_path, next(NETS))
    place = town.host(1).place
    assert await salvage(place, town.tls(place.folder), ETCD) is None
    place.data.mkdir()
    assert await salvage(place, town.tls(place.folder), ETCD) is None
