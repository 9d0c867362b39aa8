"""What a host takes for granted of the others before it has heard of them, or they of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from morgand.base.clock import SystemClock
from morgand.cluster import codec, keys
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import Put
from morgand.peers.directory import ClusterDirectory
from morgand.roles.catalog import BY_NAME


@pytest.mark.parametrize(
    ("known", "alone"), [((), False), (("founder",), False), (("me",), True), (("founder", "me"), False)]
)
async def test_a_host_is_alone_only_where_it_stands_written_down_and_nobody_else_does(
    tmp_path: Path, known: tuple[str, ...], *, alone: bool
) -> None:
    """A host that has just joined a lone one finds that one only: it would count on itself before the other does."""
    store = await LocalStore.open(tmp_path)
    records = [codec.HostRecord(one, one, "192.0.2.1") for one in known]
    await store.txn([], [Put(keys.host(one.id), codec.encode(one)) for one in records])
    mirror = Mirror(store, SystemClock())
    directory = ClusterDirectory("me", mirror, lambda _: False, specs=BY_NAME, leased=lambda: False)
    await mirror.load()
    assert directory.alone is alone
    await store.close()
