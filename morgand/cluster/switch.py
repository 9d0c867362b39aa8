"""The cluster's truth moves once: from the lone host's file into etcd, while whatever reads and writes it goes on.

The file stays the truth until etcd holds a marker, written last, with the number and the digest of what was copied. A
move that was cut off before is made again from the beginning; one that was cut off after it only has to be noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from morgand.base.errors import StoreConflict, Unavailable
from morgand.cluster import codec
from morgand.cluster.store import Change, Changes, ClusterStore, Compare, Item, Put, QuietSince, Unchanged

Items = list[Item]  # the classes have a method of that name

EVERYTHING = "/"
MOVED = "moved"  # not under EVERYTHING: no list or watch of the cluster's keys shows it
MOVING = "moving"
BATCH_OPS = 100  # etcd takes 128 if it is not told otherwise
BATCH_BYTES = 512 * 1024
HOLD_S = 10.0  # how long a write waits for a move
PAUSE_S = 0.2


class SwitchStore:
    """Implements ``ClusterStore``: the store it was given, later the one it moved to.

    Revisions only grow over the switch: those of the new store are shown higher by the last one of the old, and a
    compare with a revision from before conflicts.

    ``paused``: writes wait until ``move`` has run. For a start after a move that may have been cut off.
    """

    def __init__(self, current: ClusterStore, *, paused: bool = False) -> None:
        self._current = current
        self._open = asyncio.Event()
        self._writing = 0
        self._idle = asyncio.Event()
        self._idle.set()
        if not paused:
            self._open.set()

    @property
    def alone(self) -> bool:
        return self._current.alone

    async def get(self, key: str) -> Item | None:
        return await self._current.get(key)

    async def list(self, prefix: str) -> tuple[Items, int]:
        return await self._current.list(prefix)

    async def txn(self, compares: Sequence[Compare], puts: Sequence[Put], deletes: Sequence[str] = ()) -> int:
        try:
            async with asyncio.timeout(HOLD_S):
                await self._open.wait()
        except TimeoutError as err:
            raise Unavailable("The cluster store is being moved to the voters.") from err
        self._writing += 1
        self._idle.clear()
        try:
            return await self._current.txn(compares, puts, deletes)
        finally:
            self._writing -= 1
            if not self._writing:
                self._idle.set()

    async def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Changes]:
        seen = from_revision  # the store that is watched keeps count itself
        while True:
            store = self._current
            async with _Closing(store.watch(prefix, seen)) as stream:
                async for changes in stream:
                    yield changes
            if store is self._current:
                return
            items, seen = await self._current.list(prefix)
            yield _resync(items, seen)

    async def close(self) -> None:
        await self._current.close()

    async def move(self, target: ClusterStore) -> None:
        """Copy everything to ``target``, once, and go on there.

        Raises Unavailable when the target cannot be reached; then nothing has changed, and it can be tried again.
        """
        was_open = await self._pause()
        try:
            if await target.get(MOVED) is None:
                marker, compares = await _copy(self._current, target)
                await _mark(target, marker, compares)
        except (StoreConflict, Unavailable) as err:
            if was_open:
                self._open.set()
            raise Unavailable(f"The cluster store was not moved to the voters. {err.message}") from err
        await self._switch(target)

    async def adopt(self, target: ClusterStore) -> None:
        """Go on with ``target`` and what is there: for a host that joins a cluster."""
        await self._pause()
        await self._switch(target)

    async def _pause(self) -> bool:
        """Let writes wait, and those under way finish; returns whether they were allowed before."""
        was_open = self._open.is_set()
        self._open.clear()
        await self._idle.wait()  # bounded: every transaction is
        return was_open

    async def _switch(self, target: ClusterStore) -> None:
        _, last = await self._current.list(EVERYTHING)
        old, self._current = self._current, _Later(target, last)
        self._open.set()
        await old.close()  # ends its watches, which go on with the new one


class _Later:
    """A ``ClusterStore`` that shows another's revisions ``offset`` higher."""

    def __init__(self, store: ClusterStore, offset: int) -> None:
        self._store, self._offset = store, offset

    @property
    def alone(self) -> bool:
        return self._store.alone

    async def get(self, key: str) -> Item | None:
        item = await self._store.get(key)
        return self._shown(item) if item else None

    async def list(self, prefix: str) -> tuple[Items, int]:
        items, revision = await self._store.list(prefix)
        return [self._shown(item) for item in items], revision + self._offset

    async def txn(self, compares: Sequence[Compare], puts: Sequence[Put], deletes: Sequence[str] = ()) -> int:
        return await self._store.txn([self._real(one) for one in compares], puts, deletes) + self._offset

    async def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Changes]:
        seen = from_revision - self._offset
        if seen <= 0:  # a revision of the old store
            items, seen = await self._store.list(prefix)
            yield _resync([self._shown(item) for item in items], seen + self._offset)
        async with _Closing(self._store.watch(prefix, seen)) as stream:
            async for found in stream:
                changes = tuple(Change(one.key, self._shown(one.item) if one.item else None) for one in found.changes)
                yield Changes(found.revision + self._offset, changes, found.resync)

    async def close(self) -> None:
        await self._store.close()

    def _shown(self, item: Item) -> Item:
        create, mod = item.create_revision + self._offset, item.mod_revision + self._offset
        return replace(item, create_revision=create, mod_revision=mod)

    def _real(self, compare: Compare) -> Compare:
        if isinstance(compare, Unchanged):
            if 0 < compare.mod_revision <= self._offset:
                raise StoreConflict(f"{compare.key} was read before the cluster store moved.")
            return replace(compare, mod_revision=max(compare.mod_revision - self._offset, 0))
        if compare.revision < self._offset:
            raise StoreConflict(f"What is under {compare.prefix} was read before the cluster store moved.")
        return replace(compare, revision=compare.revision - self._offset)


def set_aside(directory: Path) -> None:
    """Keep the lone host's files, under names from which no store is opened. Blocking; after ``move``."""
    for name in ("store", "store.previous"):
        with contextlib.suppress(FileNotFoundError):
            (directory / name).replace(directory / f"{name}.moved")


async def _copy(source: ClusterStore, target: ClusterStore) -> tuple[bytes, list[Compare]]:
    """Make the target's keys equal to the source's; returns the marker, and what must still hold when it is written.

    Every write is fenced on this attempt's own key, so that none of an attempt given up before can come later.
    """
    attempt = await _begin(target)
    wanted, _ = await source.list(EVERYTHING)
    found, _ = await target.list(EVERYTHING)
    there = {item.key: item.value for item in found}
    puts = [Put(item.key, item.value) for item in wanted if there.get(item.key) != item.value]
    extra = sorted(there.keys() - {item.key for item in wanted})
    for batch in _batches(puts):
        await target.txn([attempt], batch)
    for start in range(0, len(extra), BATCH_OPS):
        await target.txn([attempt], [], extra[start : start + BATCH_OPS])
    copied, revision = await target.list(EVERYTHING)
    if _digest(copied) != _digest(wanted):
        raise Unavailable("Something else writes to the new cluster store while it is filled.")
    marker = codec.encode({"keys": len(wanted), "sha256": _digest(wanted)})
    return marker, [attempt, Unchanged(MOVED, 0), QuietSince(EVERYTHING, revision)]


async def _begin(target: ClusterStore) -> Unchanged:
    revision = await target.txn([], [Put(MOVING, uuid.uuid4().hex.encode())])
    return Unchanged(MOVING, revision)


async def _mark(target: ClusterStore, marker: bytes, compares: list[Compare]) -> None:
    """Write the marker, however long it takes to learn whether it stands: until then nobody may write to either store.

    Raises StoreConflict when it does not stand and never will.
    """
    while True:
        try:
            await target.txn(compares, [Put(MOVED, marker)])
        except StoreConflict:
            if await _stands(target, marker):
                return
            raise
        except Unavailable:
            await asyncio.sleep(PAUSE_S)
        else:
            return


async def _stands(target: ClusterStore, marker: bytes) -> bool:
    while True:
        try:
            item = await target.get(MOVED)
        except Unavailable:
            await asyncio.sleep(PAUSE_S)
        else:
            return item is not None and item.value == marker


def _batches(puts: Iterable[Put]) -> Iterable[list[Put]]:
    batch: list[Put] = []
    size = 0
    for put in puts:
        if batch and (len(batch) == BATCH_OPS or size + len(put.value) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(put)
        size += len(put.key) + len(put.value)
    if batch:
        yield batch


def _digest(items: Iterable[Item]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{len(item.key)} {len(item.value)} {item.key} ".encode() + item.value)
    return digest.hexdigest()


def _resync(items: Items, revision: int) -> Changes:
    return Changes(revision, tuple(Change(item.key, item) for item in items), resync=True)


class _Closing:
    """Whoever leaves a watch early ends it at once, not when it is collected."""

    def __init__(self, stream: AsyncIterator[Changes]) -> None:
        self._stream = stream

    async def __aenter__(self) -> AsyncIterator[Changes]:
        return self._stream

    async def __aexit__(self, *_: object) -> None:
        if isinstance(self._stream, AsyncGenerator):
            await self._stream.aclose()
