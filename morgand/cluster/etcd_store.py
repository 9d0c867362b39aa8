"""The cluster's truth in etcd.

A transaction that got no answer may have been applied, and sending it again would find its own compares broken. So each
carries a marker (``etcd_wire.txn``): sent again, it reads there what became of it. What remains unknown after the
client's patience is Unavailable, and is never reported as a conflict.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from morgand.base.errors import StoreConflict, Unavailable
from morgand.cluster import etcd_wire as wire
from morgand.cluster.etcd import PATIENCE_S, EtcdClient
from morgand.cluster.etcd_watch import PAUSE_S, follow
from morgand.cluster.etcd_wire import Decided, Gap, Ranged
from morgand.cluster.store import Change, Changes, Compare, Item, Put, QuietSince

Items = list[Item]  # the class has a method of that name

MARKERS = "txn/"  # outside of what the cluster's keys (all begin with a slash) can list
AT_ONCE = 8  # transactions of one host under way


@dataclass(slots=True)
class _Marker:
    key: str
    revision: int = 0  # where it was last seen


class EtcdStore:
    """Implements ``ClusterStore``. Owns the client."""

    def __init__(self, client: EtcdClient) -> None:
        self._client = client
        self._markers: asyncio.LifoQueue[_Marker] = asyncio.LifoQueue()
        for number in reversed(range(AT_ONCE)):
            self._markers.put_nowait(_Marker(f"{MARKERS}{client.name}/{number}"))
        self._writes: set[asyncio.Task[int]] = set()
        self._closed = asyncio.Event()

    @property
    def alone(self) -> bool:
        return False

    async def get(self, key: str) -> Item | None:
        found = await self._client.call("kv/range", {"key": wire.b64(key)}, Ranged)
        return wire.item(found.kvs[0]) if found.kvs else None

    async def list(self, prefix: str) -> tuple[Items, int]:
        while True:
            with contextlib.suppress(Gap):  # compacted between two pages: begin anew
                return await self._list(prefix)

    async def txn(self, compares: Sequence[Compare], puts: Sequence[Put], deletes: Sequence[str] = ()) -> int:
        """A caller that is cancelled leaves the transaction to finish, so that its marker is known."""
        if self._closed.is_set():
            raise Unavailable("The cluster store is closed.")
        task = asyncio.create_task(self._txn(tuple(compares), tuple(puts), tuple(deletes)))
        self._writes.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Changes]:
        """Ends when the store is closed. Raises Unavailable when no voter can be followed."""
        seen = from_revision
        while not self._closed.is_set():
            try:
                async with contextlib.aclosing(follow(self._client, prefix, seen, self._closed)) as stream:
                    async for changes in stream:
                        seen = changes.revision
                        yield changes
            except Gap:
                await asyncio.sleep(PAUSE_S)  # a voter that finds a gap every time is not asked without end
                items, seen = await self.list(prefix)
                yield Changes(seen, tuple(Change(item.key, item) for item in items), resync=True)
            except Unavailable:
                if not self._closed.is_set():
                    raise

    async def close(self) -> None:
        """Let transactions finish and end every watch."""
        self._closed.set()
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self._client.close()

    def _ended(self, task: asyncio.Task[int]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # seen: a caller that was cancelled no longer asks for it

    async def _list(self, prefix: str) -> tuple[Items, int]:
        found: Items = []
        revision, after, more = 0, None, True
        while more:
            ranged = await self._client.call("kv/range", wire.page(prefix, after, revision), Ranged)
            found += [wire.item(kv) for kv in ranged.kvs]
            revision = revision or ranged.header.revision
            more = ranged.more and bool(ranged.kvs)
            after = ranged.kvs[-1].key if ranged.kvs else None
        return found, revision

    async def _txn(self, compares: tuple[Compare, ...], puts: tuple[Put, ...], deletes: tuple[str, ...]) -> int:
        try:
            async with asyncio.timeout(PATIENCE_S):
                marker = await self._markers.get()
        except TimeoutError as err:
            raise Unavailable(f"{AT_ONCE} transactions wait for the cluster store already.") from err
        try:
            decided = await self._decide(marker, compares, puts, deletes)
        finally:
            self._markers.put_nowait(marker)
        if decided.revision is None:
            names = ", ".join(f"under {one.prefix}" if isinstance(one, QuietSince) else one.key for one in compares)
            raise StoreConflict(f"Something changed since it was read: {names}.")
        return decided.revision

    async def _decide(
        self, marker: _Marker, compares: Sequence[Compare], puts: Sequence[Put], deletes: Sequence[str]
    ) -> Decided:
        """Send the transaction until its outcome is known.

        A marker that stands elsewhere for another transaction (this host's own before a restart) is followed. Were it
        moved while this one is under way, somebody else uses the same name, and the outcome can no longer be told.
        """
        nonce = uuid.uuid4().hex
        for _ in range(3):
            body = wire.txn(marker.key, marker.revision, nonce, compares=compares, puts=puts, deletes=deletes)
            found = wire.decided(await self._client.call("kv/txn", body, wire.Txn), nonce)
            marker.revision = found.marker
            if isinstance(found, Decided):
                return found
        raise Unavailable("Another program writes to the cluster store in this host's name.")
