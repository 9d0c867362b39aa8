"""Documents in, documents out: accept, process in the background, delete everywhere.

Order of effects: object, row (pending), processing, index, completed with all its chunks in one transaction. Every
step can be repeated, so a daemon killed between any two of them goes on where it was: at start every document that is
not finished is processed again from its object, and the index is compared with the library.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from morgand.assistant.rag.accept import Acceptor
from morgand.assistant.rag.backfill import Backfill
from morgand.assistant.rag.embed import Embedding
from morgand.assistant.rag.pipeline import Pipeline, PipelinePorts
from morgand.assistant.rag.reconcile import Reconciler
from morgand.assistant.rag.way import DocumentLine
from morgand.base.aio import foreseen
from morgand.base.clock import Clock, SystemClock
from morgand.base.errors import MorganError, NotHereNow
from morgand.config import Config
from morgand.state.assistant import Document, DocumentState
from morgand.state.ports import Cache, Embedder, Extractor, Library, Objects, Upload, Vectors

log = logging.getLogger("morgand.assistant")

SEARCHES = "search:"  # prefix of cached search results: any change of the library makes them old
PAUSE_S = 2.0
PAGE = 1000
LOOK_EVERY_S = 1.0


class Ingestor:
    """The owner of every document's way into and out of Morgan. ``run`` is a task of the daemon."""

    def __init__(
        self,
        *,
        library: Library,
        objects: Objects,
        extractor: Extractor,
        embedder: Embedder,
        vectors: Vectors,
        cache: Cache,
        settings: Callable[[], Config],
        spool_dir: Path,
        clock: Clock | None = None,
        shared: Callable[[], bool] = lambda: False,
        engines: Callable[[], Hashable] = lambda: None,
    ) -> None:
        """``shared``: whether other hosts accept documents too, which this one then has to look for. ``engines``: which
        hosts perform embedder and index; when that changes, what they have is compared at once."""
        self.spool_dir = spool_dir
        self._shared, self._engines = shared, engines
        self._running = False
        self._library = library
        self._objects = objects
        self._vectors = vectors
        self._cache = cache
        self._clock = clock or SystemClock()
        self._line = DocumentLine()
        self._arrived = asyncio.Event()
        self.reconciler = Reconciler(library, vectors, self._line.under_way)
        self._acceptor = Acceptor(library, objects, settings, self._clock)
        self._embedding = Embedding(embedder, self._clock)
        self._backfill = Backfill(library, self._embedding, self.reconciler, self._clock)
        self._ports = PipelinePorts(library, objects, extractor, vectors, self._forget)
        self._originals = asyncio.Lock()  # an object is not removed while a row for it is being made

    # --- from the API ----------------------------------------------------------------------------

    async def accept(self, uploads: Sequence[Upload]) -> list[tuple[Document, bool] | MorganError]:
        """Take over spooled files: durable when this returns; processed later. See ``Acceptor.take``."""
        async with self._originals:
            taken = await self._acceptor.take(uploads, waiting=len(self._line))
        for one in taken:
            # else the host that processes finds it in the library
            if not isinstance(one, MorganError) and one[1] and (self._running or not self._shared()):
                self._enqueue([one[0].id])
        return taken

    async def delete(self, document: str) -> Document:
        """Delete a document everywhere: library, index, original, cached searches. Raises NotFound."""
        deleted = await self._library.delete(document)
        await self._forget({deleted.id: deleted.object_key})
        return deleted

    def wake(self) -> None:
        """An engine came (back): fill missing embeddings and compare the index now."""
        self._backfill.wake()
        self.reconciler.wake()

    @property
    def waiting(self) -> int:
        """Documents accepted and not finished."""
        return len(self._line)

    # --- the background work ---------------------------------------------------------------------

    async def run(self) -> None:
        """Process documents until cancelled."""
        self._running = True
        pipeline = Pipeline(
            self._line, self._arrived, self._ports, self._embedding, reconciler=self.reconciler,
            backfill=self._backfill, clock=self._clock,
        )  # fmt: skip
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._resume())
                group.create_task(self._poll())
                group.create_task(pipeline.run())
                group.create_task(self._backfill.run())
                group.create_task(self.reconciler.run())
        finally:
            self._running = False
            self._line.clear()

    async def _resume(self) -> None:
        """Queue what an earlier run accepted and did not finish, oldest first, before anything newer."""
        while True:
            try:
                found = await foreseen(self._unfinished(), log, "ingestion not resumed")
                break
            except MorganError as err:
                log.warning("documents cannot be read yet", extra={"reason": err.message})
                await self._clock.sleep(PAUSE_S)
        older = self._line.add((document.id for document in found), first=True)
        self._arrived.set()
        if older:
            log.info("ingestion resumed", extra={"documents": len(older)})
        await self._sweep()

    async def _poll(self) -> None:
        """Find what other hosts have accepted or what stood aside for long enough, and that an engine has moved."""
        engines = self._engines()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            before, engines = engines, self._engines()
            if engines != before:
                self.wake()
            if self._line.due(self._clock.monotonic()):
                self._arrived.set()
            if self._shared():
                pending = self._library.documents(state=DocumentState.PENDING, limit=PAGE)
                try:
                    found = await foreseen(pending, log, "documents not looked for")
                except MorganError as err:
                    log.debug("documents cannot be read", extra={"reason": err.message})
                else:
                    self._enqueue(document.id for document in found)

    async def _unfinished(self) -> list[Document]:
        found = await self._all(DocumentState.PROCESSING) + await self._all(DocumentState.PENDING)
        return sorted(found, key=lambda document: document.created)

    async def _all(self, state: DocumentState | None = None) -> list[Document]:
        found: list[Document] = []
        while page := await self._library.documents(state=state, limit=PAGE, offset=len(found)):
            found += page
        return found

    async def _forget(self, keys: Mapping[str, str]) -> None:
        """Remove deleted documents (id to object key) from index, originals and cache.

        What the index could not remove is repaired by reconciliation.
        """
        if keys:
            try:
                await self._vectors.delete_documents(list(keys))
            except NotHereNow:
                self.reconciler.wake()
        await self._drop_unused(set(keys.values()))
        with contextlib.suppress(NotHereNow):  # a cache that is away answers nobody
            await self._cache.drop(SEARCHES)

    async def _drop_unused(self, keys: Iterable[str]) -> None:
        for key in keys:
            async with self._originals:
                if not await self._library.object_used(key):
                    await self._objects.delete(key)

    async def _sweep(self) -> None:
        """Remove originals that no document has: a daemon that died between two steps of a removal left them."""
        try:
            await foreseen(self._sweep_unused(), log, "originals not swept")
        except MorganError as err:
            log.warning("originals not swept", extra={"reason": err.message})

    async def _sweep_unused(self) -> None:
        kept = set(await self._objects.keys())
        await self._drop_unused(kept - {document.object_key for document in await self._all()})

    def _enqueue(self, documents: Iterable[str]) -> None:
        if self._line.add(documents):
            self._arrived.set()
