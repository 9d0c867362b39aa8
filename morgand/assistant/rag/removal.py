"""The way out of the library: what no document needs any more leaves the index, the cached searches and the originals.

Another host may be storing the very content again at this moment. So an original is marked first, then the library is
asked whether a document needs it, and only what still bears the mark is removed. Whoever takes in an upload stores the
content, then its row, and then takes marks off, before it acknowledges: what is marked later has a row to be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping

from morgand.assistant.rag.reconcile import Reconciler
from morgand.assistant.rag.upkeep import keep_up
from morgand.base.errors import InvalidInput, MorganError, NotHereNow
from morgand.config import DocumentsConfig
from morgand.state.assistant import Document, DocumentState
from morgand.state.ports import Cache, Library, Objects, Vectors

SEARCHES = "search:"  # prefix of cached search results: any change of the library makes them old
SWEEP_EVERY_S = 3600.0
PAGE = 1000
RETIRED = 1000  # earlier versions that one sweep removes


class Remover:
    """``run`` sweeps: at start, when a removal failed here, and now and then for those that failed elsewhere."""

    def __init__(
        self, library: Library, objects: Objects, vectors: Vectors, cache: Cache, reconciler: Reconciler, *,
        kept: Callable[[], DocumentsConfig],
    ) -> None:  # fmt: skip
        """``kept`` says which earlier versions are."""
        self._library = library
        self._objects = objects
        self._vectors = vectors
        self._cache = cache
        self._reconciler = reconciler
        self._kept = kept
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
        await keep_up(self.sweep, self._wake, SWEEP_EVERY_S, "originals not swept")

    async def sweep(self) -> None:
        """Remove originals that no document has (a removal, or an upload, ended between two of its steps), then
        versions that are not kept any longer: the next sweep, at once, finds their originals. Raises NotHereNow."""
        stored = set(await self._objects.keys())
        needed = {document.object_key for document in await everything(self._library, earlier=True)}
        await self._drop_unused(stored - needed)
        kept = self._kept()
        with contextlib.suppress(InvalidInput):  # an older host, which performs the database, keeps none
            if await self._library.retire(keep=kept.keep_versions, days=kept.keep_versions_days, limit=RETIRED):
                self._wake.set()

    async def _drop_unused(self, keys: Collection[str]) -> None:
        if not keys:
            return
        mark = await self._objects.mark(sorted(keys))
        for key in keys:
            if not await self._library.object_used(key):
                await self._objects.delete(key, mark)


async def everything(library: Library, state: DocumentState | None = None, *, earlier: bool = False) -> list[Document]:
    """All documents (in one state, with earlier versions or without), page by page."""
    found: list[Document] = []
    while True:
        page = await library.documents(state=state, limit=PAGE, offset=len(found), earlier=earlier)
        found += page
        if len(page) < PAGE:
            return found
