"""The store of a lone host: everything in memory, every transaction on disk before it counts."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from morgand.base.errors import StoreConflict, Unavailable
from morgand.cluster.store import Change, Changes, Compare, Item, Put, QuietSince, Unchanged
from morgand.cluster.storefile import StoreContent, StoreFile

Items = list[Item]  # the class has a method of that name

HISTORY = 1000  # transactions a watcher may fall behind before it gets everything anew


class LocalStore:
    """Implements ``ClusterStore``. The caller holds the data directory's lock: one process, one store."""

    def __init__(self, file: StoreFile, content: StoreContent) -> None:
        self._file = file
        self._revision = content.revision
        self._items = {key: Item(key, value, create, mod) for key, value, create, mod in content.rows}
        self._history: deque[Changes] = deque(maxlen=HISTORY)
        self._oldest = content.revision  # changes after this revision are in the history
        self._writing = asyncio.Lock()
        self._moved = asyncio.Event()
        self._writes: set[asyncio.Task[int]] = set()
        self._closed = False

    @classmethod
    async def open(cls, directory: Path) -> LocalStore:
        """Raises MorganError for a damaged store, Unavailable when it cannot be read."""
        file = StoreFile(directory)
        return cls(file, await asyncio.to_thread(file.read))

    @property
    def alone(self) -> bool:
        return True

    async def get(self, key: str) -> Item | None:
        return self._items.get(key)

    async def list(self, prefix: str) -> tuple[Items, int]:
        return self._under(prefix), self._revision

    async def txn(self, compares: Sequence[Compare], puts: Sequence[Put], deletes: Sequence[str] = ()) -> int:
        """A caller that is cancelled leaves the transaction to finish: memory and file never part."""
        task = asyncio.create_task(self._txn(tuple(compares), tuple(puts), tuple(deletes)))
        self._writes.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Changes]:
        seen = from_revision
        while not self._closed:
            moved = self._moved
            found = self._since(prefix, seen)
            seen = self._revision
            if found is not None:
                yield found
            elif moved is self._moved:
                await moved.wait()

    async def close(self) -> None:
        """Let transactions finish and end every watch."""
        await asyncio.gather(*self._writes, return_exceptions=True)
        self._closed = True
        self._moved.set()

    def _ended(self, task: asyncio.Task[int]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # seen: a caller that was cancelled no longer asks for it

    async def _txn(self, compares: tuple[Compare, ...], puts: tuple[Put, ...], deletes: tuple[str, ...]) -> int:
        async with self._writing:
            if self._closed:
                raise Unavailable("The cluster store is closed.")
            for compare in compares:
                self._hold(compare)
            revision = self._revision + 1
            items, changes = _applied(self._items, revision, puts, deletes)
            if not changes:
                return self._revision
            rows = [(one.key, one.value, one.create_revision, one.mod_revision) for one in items.values()]
            await asyncio.to_thread(self._file.write, StoreContent(revision, rows))
            self._commit(items, Changes(revision, tuple(changes)))
            return revision

    def _commit(self, items: dict[str, Item], changes: Changes) -> None:
        self._items, self._revision = items, changes.revision
        if len(self._history) == HISTORY:
            self._oldest = self._history[0].revision
        self._history.append(changes)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def _hold(self, compare: Compare) -> None:
        if isinstance(compare, Unchanged):
            item = self._items.get(compare.key)
            if (item.mod_revision if item else 0) != compare.mod_revision:
                raise StoreConflict(f"{compare.key} changed since it was read.")
            return
        assert isinstance(compare, QuietSince)
        if any(one.mod_revision > compare.revision for one in self._under(compare.prefix)):
            raise StoreConflict(f"Something under {compare.prefix} changed since revision {compare.revision}.")

    def _under(self, prefix: str) -> Items:
        return [self._items[key] for key in sorted(self._items) if key.startswith(prefix)]

    def _since(self, prefix: str, revision: int) -> Changes | None:
        """What a watcher that has seen ``revision`` must be told, or None."""
        if revision >= self._revision:
            return None
        if revision < self._oldest:
            changes = tuple(Change(item.key, item) for item in self._under(prefix))
            return Changes(self._revision, changes, resync=True)
        changes = tuple(
            change
            for past in self._history
            if past.revision > revision
            for change in past.changes
            if change.key.startswith(prefix)
        )
        return Changes(self._revision, changes) if changes else None


def _applied(
    items: dict[str, Item], revision: int, puts: tuple[Put, ...], deletes: tuple[str, ...]
) -> tuple[dict[str, Item], list[Change]]:
    """The items after a transaction, and what it changed."""
    after = dict(items)
    changes = [Change(key, None) for key in deletes if after.pop(key, None) is not None]
    for put in puts:
        old = after.get(put.key)
        item = Item(put.key, put.value, old.create_revision if old else revision, revision)
        after[put.key] = item
        changes.append(Change(put.key, item))
    return after, changes
