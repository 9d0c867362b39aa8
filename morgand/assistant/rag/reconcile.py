"""Keeps the index equal to the library: the index is a copy and can always be rebuilt.

The library (the database) says which documents are live and how many chunks each has; the index says how many
points it holds for each. What differs is written again or removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from morgand.assistant.rag.points import index_points
from morgand.assistant.rag.upkeep import keep_up
from morgand.base.aio import foreseen
from morgand.base.errors import MorganError, NotFound, NotHereNow
from morgand.state.ports import Library, Vectors

log = logging.getLogger("morgand.assistant")

CHECK_S = 600.0  # how often it is looked at without a reason


@dataclass(frozen=True, slots=True)
class IndexDifference:
    """Documents to write to the index, and documents to remove from it first."""

    missing: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()


def difference(
    live: Mapping[str, int], counts: Mapping[str, int], changed: frozenset[str] = frozenset(),
    coming: frozenset[str] = frozenset(),
) -> IndexDifference:  # fmt: skip
    """What the index lacks and what it holds too much. ``changed``: live documents to write in any case; ``coming``:
    documents that may be in the index already, and are not in the library yet."""
    stale = tuple(doc for doc, points in counts.items() if points > live.get(doc, 0) and doc not in coming)
    missing = tuple(doc for doc, chunks in live.items() if counts.get(doc, 0) != chunks or doc in changed)
    return IndexDifference(missing=missing, stale=stale)


class Reconciler:
    """Compares and repairs; ``wake`` it when the index came back or a write to it failed."""

    def __init__(self, library: Library, vectors: Vectors, under_way: Callable[[], frozenset[str]] = frozenset) -> None:
        """``under_way``: documents that are being processed, which are in the index before they are in the library."""
        self._library = library
        self._vectors = vectors
        self._under_way = under_way
        self._changed: set[str] = set()
        self._wake = asyncio.Event()

    def wake(self, *changed: str) -> None:
        """Compare soon. ``changed``: documents whose points may be outdated although their number is right."""
        self._changed.update(changed)
        self._wake.set()

    async def run(self) -> None:
        """Compare at start, whenever woken, and now and then. Ends only by cancellation."""
        await keep_up(self.reconcile, self._wake, CHECK_S, "index not reconciled")

    async def reconcile(self) -> IndexDifference:
        """Make the index equal to the library now. Raises NotHereNow when one of them cannot be reached.

        The index is counted before the library is read: a document that is completed in between looks missing
        (and is written twice, harmless), never stale (and lost). One that is in the index and not completed yet was
        under way before the library was read, or, left there by a daemon that died, is by the time it is removed.
        """
        changed = frozenset(self._changed)
        counts = await self._vectors.counts()
        coming = self._under_way()
        live = await self._library.live()
        found = difference(live, counts, changed, coming | self._under_way())
        if found.stale:
            await self._vectors.delete_documents(found.stale)
        failed = [document for document in found.missing if not await self._indexed(document)]
        self._changed -= changed.difference(failed)
        if found.missing or found.stale:
            log.info("index reconciled", extra={"written": len(found.missing), "removed": len(found.stale)})
        return found

    async def _indexed(self, document: str) -> bool:
        """Write one document; what is wrong with it alone does not keep the others out. Raises NotHereNow."""
        try:
            await foreseen(self.index(document), log, "document not indexed", document=document)
        except NotHereNow:
            raise
        except MorganError as err:
            log.warning("document not indexed", extra={"document": document, "reason": err.message})
            return False
        return True

    async def index(self, document: str) -> None:
        """Write one document's points from the library. A document deleted meanwhile is left out."""
        try:
            await self._library.document(document)
            chunks = await self._library.chunks(document)
        except NotFound:
            return
        if chunks:
            await self._vectors.upsert(index_points(chunks))
