"""Who leads: the host whose name stands under the election key. The epoch is the revision that wrote it.

Revisions only grow and survive restarts, so a later leader always has the higher epoch.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass

from morgand.cluster import codec, keys
from morgand.cluster.store import ClusterStore, Item, Put, Unchanged
from morgand.errors import StoreConflict

log = logging.getLogger("morgand.election")


@dataclass(frozen=True, slots=True)
class Leadership:
    """Held while the election key's ``mod_revision`` is ``epoch``."""

    host: str
    epoch: int

    def fence(self) -> Unchanged:
        """The compare that every write of a leader carries."""
        return Unchanged(keys.ELECTION, self.epoch)


async def campaign(store: ClusterStore, host: str) -> Leadership:
    """Wait until this host leads. Its own key from before a restart, or any key where nobody else can write,
    is stale and taken over under a higher epoch."""
    while True:
        item = await store.get(keys.ELECTION)
        if item is None or store.alone or holder(item) == host:
            with contextlib.suppress(StoreConflict):  # another was faster: look again
                return await _take(store, host, item)
            continue
        await _until_changed(store, item)


async def current(store: ClusterStore) -> Leadership | None:
    """Who leads now, or None."""
    item = await store.get(keys.ELECTION)
    return Leadership(holder(item), item.mod_revision) if item else None


async def resign(store: ClusterStore, leadership: Leadership) -> None:
    """Let another lead; does nothing when this leadership has ended already."""
    with contextlib.suppress(StoreConflict):
        await store.txn([leadership.fence()], [], [keys.ELECTION])


def holder(item: Item) -> str:
    return codec.decode(codec.Office, item.value, key=keys.ELECTION).host


async def _take(store: ClusterStore, host: str, stale: Item | None) -> Leadership:
    compare = Unchanged(keys.ELECTION, stale.mod_revision if stale else 0)
    epoch = await store.txn([compare], [Put(keys.ELECTION, codec.encode(codec.Office(host)))])
    log.info("leadership won", extra={"host": host, "epoch": epoch, "took_over": stale is not None})
    return Leadership(host, epoch)


async def _until_changed(store: ClusterStore, item: Item) -> None:
    async for _ in store.watch(keys.ELECTION, item.mod_revision):
        return
