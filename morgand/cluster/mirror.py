"""A copy of the cluster's truth in memory: what reads that may be a moment old are answered from.

Every host follows the whole store with one watch. When the store cannot be reached (no quorum), the copy stays what was
last known and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from morgand.base.clock import Clock
from morgand.base.errors import Unavailable
from morgand.cluster.store import Changes, ClusterStore, Item
from morgand.cluster.view import View

log = logging.getLogger("morgand.mirror")

PAUSE_S = 0.5
WATCHED_S = 0.1  # what a watch takes at most while all is well


class Mirror:
    """``run`` keeps it in step; everything else is answered at once."""

    def __init__(self, store: ClusterStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._items: dict[str, Item] = {}
        self._view, self._outdated = View((), 0), False
        self._changed = asyncio.Event()
        self.revision = 0
        self.current = False  # whether the store could be followed when it was last heard
        self._lost_at_s = clock.monotonic()

    @property
    def lost_s(self) -> float:
        """For how long the store could not be followed, seconds; 0 while it can be."""
        return 0.0 if self.current else self._clock.monotonic() - self._lost_at_s

    @property
    def view(self) -> View:
        """What stands here, typed: the same one until something changes."""
        if self._outdated:
            self._view, self._outdated = View(self._items.values(), self.revision, self._view), False
        return self._view

    def get(self, key: str) -> Item | None:
        return self._items.get(key)

    def list(self, prefix: str) -> list[Item]:
        """In order of their keys."""
        return [self._items[key] for key in sorted(self._items) if key.startswith(prefix)]

    def next(self) -> asyncio.Event:
        """Set when anything has changed since this call: take it, read, then wait for it."""
        return self._changed

    async def until(self, revision: int) -> None:
        """Wait until a write that returned ``revision`` is seen here: the watch brings it within moments, as a rule.

        Raises Unavailable when the store is gone.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WATCHED_S if self.current else 0):
                while self.revision < revision:
                    await self.next().wait()
        if self.revision < revision:
            items, read = await self._store.list("/")
            if self.revision < read:  # else the watch was faster, and goes on from there
                self._take(items, read)

    async def load(self) -> None:
        """Read everything anew. Raises Unavailable."""
        self._take(*await self._store.list("/"))

    def _take(self, items: Sequence[Item], revision: int) -> None:
        self._items, self.revision = {item.key: item for item in items}, revision
        self.current = True
        self._notify()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self.load()
                async for changes in self._store.watch("/", self.revision):
                    self._apply(changes)
            except Unavailable as err:
                if self.current:
                    log.warning("the cluster store cannot be followed", extra={"reason": err.message})
                    self._lost_at_s = self._clock.monotonic()
                self.current = False
            await self._clock.sleep(PAUSE_S)

    def _apply(self, changes: Changes) -> None:
        if changes.resync:
            self._items = {}
        elif changes.revision <= self.revision:
            return  # read before the watch came to it
        for change in changes.changes:
            if change.item is None:
                self._items.pop(change.key, None)
            else:
                self._items[change.key] = change.item
        self.revision = changes.revision
        self.current = True
        self._notify()

    def _notify(self) -> None:
        self._outdated = True
        told, self._changed = self._changed, asyncio.Event()
        told.set()
