"""The way out of the library: what no document needs any more leaves the index, the cached searches and the originals.

Another host may be storing the very content again at this moment. So an original is marked first, then the library is
asked whether a document needs it, and only what still bears the mark is removed. Whoever takes in an upload stores the
content, then its row, and then takes marks off, before it acknowledges: what is marked later has a row to be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Mapping

from morgand.assistant.rag.reconcile import RETRY_S, Reconciler
from morgand.base.aio import foreseen
from morgand.base.errors import MorganError, NotHereNow
from morgand.state.assistant import Document, DocumentState
from morgand.state.ports import Cache, Library, Objects, Vectors

log = logging.getLogger("morgand.assistant")

SEARCHES = "search:"  # prefix of cached search results: any change of the library makes them old
SWEEP_EVERY_S = 3600.0
PAGE = 1000


class Remover:
    """``run`` sweeps: at start, when a removal failed here, and now and then for those that failed elsewhere."""

    def __init__(
        self, library: Library, objects: Objects, vectors: Vectors, cache: Cache, reconciler: Reconciler
    ) -> None:
        self._library = library
        self._objects = objects
        self._vectors = vectors
        self._cache = cache
        self._reconciler = reconciler
        self._wake = asyncio.Event()

    async def forget(self, keys: Mapping[str, str]) -> None:
        """Remove deleted documents (id to object key) everywhere. What fails here is repaired by reconciliation and
        sweeps. Raises NotHereNow where originals cannot be removed now."""
        if keys:
            try:
                await self._vectors.delete_documents(list(keys))
            except NotHereNow:
                self._reconciler.wake()
        with contextlib.suppress(NotHereNow):  # a cache that is away answers nobody
            await self._cache.drop(SEARCHES)
        try:
            await self._drop_unused(set(keys.values()))
        except MorganError:
            self._wake.set()
            raise

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            self._wake.clear()
            try:
                await foreseen(self.sweep(), log, "originals not swept")
                failures = 0
            except MorganError as err:
                if not failures:
                    log.warning("originals not swept", extra={"reason": err.message})
                failures += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S[min(failures, len(RETRY_S)) - 1] if failures else SWEEP_EVERY_S):
                    await self._wake.wait()

    async def sweep(self) -> None:
        """Remove originals that no document has: a removal, or an upload, ended between two of its steps.
        Raises NotHereNow."""
        stored = set(await self._objects.keys())
        await self._drop_unused(stored - {document.object_key for document in await everything(self._library)})

    async def _drop_unused(self, keys: Collection[str]) -> None:
        if not keys:
            return
        mark = await self._objects.mark(sorted(keys))
        for key in keys:
            if not await self._library.object_used(key):
                await self._objects.delete(key, mark)


async def everything(library: Library, state: DocumentState | None = None) -> list[Document]:
    """All documents (in one state), page by page."""
    found: list[Document] = []
    while True:
        page = await library.documents(state=state, limit=PAGE, offset=len(found))
        found += page
        if len(page) < PAGE:
            return found
