"""A host's goodbye: what fails of it keeps nothing else from being done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from morgand.base.aio import ended
from morgand.base.errors import MorganError, StorageFull, StoreConflict, Unavailable
from morgand.cluster import codec, keys
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.config import load
from morgand.host.drain import Drain
from morgand.host.registration import Registration
from morgand.roles.catalog import NAMES
from morgand.state.hosts import HostState
from tests.fakes.clusters import profile
from tests.fakes.storage import HandClock


@pytest.mark.parametrize("error", [StoreConflict(), Unavailable(), StorageFull()])
async def test_a_step_of_the_goodbye_that_fails_skips_no_other(error: MorganError) -> None:
    done: list[str] = []

    def step(name: str) -> Callable[[], Awaitable[None]]:
        async def do() -> None:
            done.append(name)
            raise error

        return do

    directory = SimpleNamespace(others=lambda: ["b"], hosts=dict)
    drain = Drain(
        "a", mirror=cast("Any", SimpleNamespace(current=True)), directory=cast("Any", directory), performed=list,
        leave=step("leave"), resign=step("resign"),
    )  # fmt: skip
    await drain.run(10)
    assert done == ["leave", "resign"]


class Contended(LocalStore):
    """Others write at the same time: the first tries conflict."""

    conflicts = 2

    async def txn(self, compares: Any, puts: Any, deletes: Any = ()) -> int:
        if compares and self.conflicts:
            self.conflicts -= 1
            raise StoreConflict
        return await super().txn(compares, puts, deletes)


async def test_a_host_that_leaves_says_so_whatever_others_write_of_it_meanwhile(tmp_path: Path) -> None:
    store = await Contended.open(tmp_path)
    mirror = Mirror(store, HandClock())
    await mirror.load()
    connection = SimpleNamespace(alone=True, leased=True, peer_address="127.0.0.1:7471")
    here = Registration(
        "a", load(None, {}, ["host.name=a"], roles=NAMES), tmp_path, models=(),
        store=store, mirror=mirror,
        connection=cast("Any", connection), disk=cast("Any", None), clock=HandClock(),
    )  # fmt: skip
    here._profile = profile()
    following = asyncio.create_task(mirror.run())
    try:
        await here.leave()
        item = await store.get(keys.host("a"))
        assert item is not None
        assert codec.decode(codec.HostRecord, item.value, key=item.key).state is HostState.LEFT
    finally:
        await ended(following)
        await store.close()
