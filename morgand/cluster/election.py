"""Who leads: the host named under the election key.

Epochs are counted under a key of their own, which is never deleted: they only grow, also when the cluster's truth moves
to another store or is restored from a copy. A new leadership begins one, and so does every plan that moves something.
What fences a leader is the election key's ``mod_revision``: nobody else wrote it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from morgand.base.errors import StoreConflict
from morgand.cluster import codec, keys
from morgand.cluster.store import ClusterStore, Item, Put, Unchanged

log = logging.getLogger("morgand.election")


@dataclass(frozen=True, slots=True)
class Leadership:
    """Held while the election key was last written at ``revision``. ``epoch`` is the one it began with."""

    host: str
    epoch: int
    revision: int

    def fence(self) -> Unchanged:
        """The compare that every write of a leader carries."""
        return Unchanged(keys.ELECTION, self.revision)


Lost = Callable[[str], Awaitable[None]]


async def trust(_leader: str) -> None:
    """A ``Lost`` that never doubts a leader."""
    await asyncio.Event().wait()


async def campaign(store: ClusterStore, host: str, lost: Lost = trust) -> Leadership:
    """Wait until this host leads.

    It takes over from nobody, from itself before a restart, from anybody where nobody else can write, and from a
    leader for whom ``lost(leader)`` returns: whoever is wrong about that only costs a change of leaders, since the
    old one's next write is refused.
    """
    while True:
        item = await store.get(keys.ELECTION)
        holder = (election_record(item).host if item else None) or host
        if item is None or holder == host or store.alone or await _lost(store, item, lost(holder)):
            with contextlib.suppress(StoreConflict):  # another was faster: look again
                return await _take(store, host, item)


async def current(store: ClusterStore) -> Leadership | None:
    """Who leads now, or None."""
    item = await store.get(keys.ELECTION)
    return leadership(item) if item else None


def leadership(item: Item) -> Leadership | None:
    """What stands under the election key; None when its last holder has resigned."""
    found = election_record(item)
    return Leadership(found.host, found.epoch, item.mod_revision) if found.host is not None else None


async def resign(store: ClusterStore, held: Leadership) -> None:
    """Let another lead; does nothing when this leadership has ended already."""
    with contextlib.suppress(StoreConflict):
        await store.txn([held.fence()], [Put(keys.ELECTION, codec.encode(codec.ElectionRecord(None, held.epoch)))])


def epoch_in(counted: Item | None, election: Item | None) -> int:
    """The last epoch that was begun; 0 before the first."""
    if counted is not None:
        return codec.decode(int, counted.value, key=keys.EPOCH)
    return 0 if election is None else election.mod_revision  # 0.1 counted none: it was the revision


def election_record(item: Item) -> codec.ElectionRecord:
    return codec.decode(codec.ElectionRecord, item.value, key=keys.ELECTION)


async def _take(store: ClusterStore, host: str, stale: Item | None) -> Leadership:
    counted = await store.get(keys.EPOCH)
    epoch = epoch_in(counted, stale) + 1
    compares = [
        Unchanged(keys.ELECTION, stale.mod_revision if stale else 0),
        Unchanged(keys.EPOCH, counted.mod_revision if counted else 0),
    ]
    puts = [Put(keys.ELECTION, codec.encode(codec.ElectionRecord(host, epoch))), Put(keys.EPOCH, codec.encode(epoch))]
    revision = await store.txn(compares, puts)
    log.info(
        "leadership won", extra={"host": host, "epoch": epoch, "from": election_record(stale).host if stale else None}
    )
    return Leadership(host, epoch, revision)


async def _lost(store: ClusterStore, item: Item, lost: Awaitable[None]) -> bool:
    """Wait until the key changes (False) or its holder is lost (True)."""
    changed, gone = asyncio.ensure_future(_until_changed(store, item)), asyncio.ensure_future(lost)
    try:
        done, _ = await asyncio.wait((changed, gone), return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
        return changed not in done
    finally:
        changed.cancel()
        gone.cancel()
        await asyncio.gather(changed, gone, return_exceptions=True)


async def _until_changed(store: ClusterStore, item: Item) -> None:
    """From what is there now on: the history since the leader was elected may be gone (compaction)."""
    items, revision = await store.list(keys.ELECTION)
    if items[:1] != [item]:
        return
    async for _ in store.watch(keys.ELECTION, revision):
        return
