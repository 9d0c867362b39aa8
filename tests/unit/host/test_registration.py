"""What a host says of itself, from its first moment in a cluster on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from morgand.base.aio import ended
from morgand.cluster import codec, keys
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import Put
from morgand.config import load
from morgand.host.registration import Registration
from morgand.peers.directory import ClusterDirectory
from morgand.roles.catalog import BY_NAME, NAMES
from morgand.state.hosts import HostState
from tests.fakes.clusters import profile
from tests.fakes.storage import HandClock

ME, FOUNDER = "newcomer", "founder"


class Member:
    """The connection of a host that has joined, on which the others count when ``counted_on`` is called."""

    alone, peer_address = False, "192.0.2.2:7471"

    def __init__(self, mirror: Mirror) -> None:
        self._granted, self._seen = False, asyncio.Event()
        self._directory = ClusterDirectory(ME, mirror, list, specs=BY_NAME, leased=lambda: self.leased)

    @property
    def leased(self) -> bool:
        return self._directory.alone or self._granted

    def next(self) -> asyncio.Event:
        return self._seen

    def counted_on(self) -> None:
        self._granted = True
        self._seen.set()


@pytest.mark.parametrize("read", [False, True])
async def test_whoever_joined_a_lone_host_is_away_until_that_one_counts_on_it(tmp_path: Path, read: bool) -> None:
    """Whether or not it has read by then that there is another: nobody misses it before it was ever heard."""
    store = await LocalStore.open(tmp_path)
    founder = codec.HostRecord(FOUNDER, FOUNDER, "192.0.2.1", peer="192.0.2.1:7471")
    await store.txn([], [Put(keys.host(FOUNDER), codec.encode(founder)), Put(keys.member(ME), codec.encode({}))])
    mirror = Mirror(store, HandClock())
    if read:
        await mirror.load()
    connection = Member(mirror)
    here = Registration(
        ME, load(None, {}, ["host.name=newcomer"], roles=NAMES), tmp_path, models=(), store=store, mirror=mirror,
        connection=connection, disk=cast("Any", None), clock=HandClock(),
    )  # fmt: skip
    here.profile = profile()

    async def written() -> HostState:
        while (item := mirror.get(keys.host(ME))) is None:
            await mirror.next().wait()
        return codec.decode(codec.HostRecord, item.value, key=item.key).state

    keeping = asyncio.create_task(here.keep_record())
    try:
        assert await written() is HostState.LEFT
        changed = mirror.next()
        connection.counted_on()
        await changed.wait()
        assert await written() is HostState.ALIVE
    finally:
        await ended(keeping)
        await store.close()
