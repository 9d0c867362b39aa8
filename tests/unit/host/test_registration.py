"""What a host says of itself, from its first moment in a cluster on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from morgand.base.aio import ended
from morgand.cluster import codec, keys
from morgand.cluster.local import LocalStore
from morgand.cluster.member_file import MemberFile
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import Put
from morgand.config import load
from morgand.host.registration import Registration
from morgand.membership.place import ClusterPlace
from morgand.roles.catalog import NAMES
from morgand.state.hosts import HostState
from tests.fakes.clusters import profile
from tests.fakes.storage import HandClock

ME, FOUNDER = "newcomer", "founder"


class Session:
    """What the others say: they count on this host when ``counted_on`` is called."""

    def __init__(self) -> None:
        self.leased, self._seen = False, asyncio.Event()
        self.pulse = self.beats = self

    def next(self) -> asyncio.Event:
        return self._seen

    def counted_on(self) -> None:
        self.leased = True
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
    session, member = Session(), MemberFile("cluster", "morgan", ME, "192.0.2.2", 7471)
    place = ClusterPlace(ME, "own", member, mirror)
    place.enter(member, cast("Any", session))
    here = Registration(
        ME, load(None, {}, ["host.name=newcomer"], roles=NAMES), tmp_path, models=(), store=store, mirror=mirror,
        connection=place, disk=cast("Any", None), clock=HandClock(),
    )  # fmt: skip
    here._profile = profile()

    async def written() -> HostState:
        while (item := mirror.get(keys.host(ME))) is None:
            await mirror.next().wait()
        return codec.decode(codec.HostRecord, item.value, key=item.key).state

    keeping = asyncio.create_task(here.keep_record())
    try:
        assert await written() is HostState.LEFT
        changed = mirror.next()
        session.counted_on()
        await changed.wait()
        assert await written() is HostState.ALIVE
    finally:
        await ended(keeping)
        await store.close()
