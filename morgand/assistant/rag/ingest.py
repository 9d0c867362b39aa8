"""Documents in, documents out: accept, process in the background, delete everywhere.

Order of effects: object, row (pending), processing, index, completed with all its chunks in one transaction. Every
step can be repeated, so a daemon killed between any two of them goes on where it was. The library is the queue: what it
has unfinished is processed, whoever accepted it and whatever became of the request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence

from morgand.assistant.rag.accept import Acceptor
from morgand.assistant.rag.backfill import Backfill
from morgand.assistant.rag.embed import Embedding
from morgand.assistant.rag.pipeline import Pipeline, PipelinePorts
from morgand.assistant.rag.reconcile import Reconciler
from morgand.assistant.rag.removal import Remover, everything
from morgand.assistant.rag.way import DocumentLine
from morgand.base.aio import foreseen, to_its_end, wait_within
from morgand.base.clock import Clock, SystemClock
from morgand.base.errors import MorganError
from morgand.config import Config
from morgand.state.assistant import Document, DocumentState
from morgand.state.ports import Cache, Embedder, Extractor, Library, Originals, Upload, Vectors

log = logging.getLogger("morgand.assistant")

LOOK_EVERY_S = 1.0
LOOK_BELOW = 256  # documents that wait here: with more there is enough to do


class Ingestor:
    """The owner of every document's way into and out of Morgan. ``run`` is a task of the daemon."""

    def __init__(
        self,
        *,
        library: Library,
        objects: Originals,
        extractor: Extractor,
        embedder: Embedder,
        vectors: Vectors,
        cache: Cache,
        settings: Callable[[], Config],
        clock: Clock | None = None,
        engines: Callable[[], Hashable] = lambda: None,
    ) -> None:
        """``engines``: which hosts perform embedder and index; when that changes, what they have is compared."""
        self._engines = engines
        self._library = library
        self._clock = clock or SystemClock()
        self._line = DocumentLine()
        self._arrived = asyncio.Event()  # documents to start
        self._news = asyncio.Event()  # the library may have more than was found by the last look
        self.reconciler = Reconciler(library, vectors, self._line.under_way)
        self._acceptor = Acceptor(library, objects, settings, self._clock)
        self._remover = Remover(library, objects, vectors, cache, self.reconciler, kept=lambda: settings().documents)
        self._embedding = Embedding(embedder, self._clock)
        self._backfill = Backfill(library, self._embedding, self.reconciler, self._clock)
        self._ports = PipelinePorts(library, objects, extractor, vectors, self._remover.forget)

    # --- from the API ----------------------------------------------------------------------------

    async def accept(self, uploads: Sequence[Upload]) -> list[tuple[Document, bool] | MorganError]:
        """Take over spooled files: durable when this returns; processed later. See ``Acceptor.take``."""
        try:
            return await self._acceptor.take(uploads)
        finally:
            self._news.set()  # however this ended: a row may be there

    async def delete(self, document: str) -> Document:
        """Delete a document and its versions everywhere: library, index, originals, cached searches. Or NotFound."""
        return await to_its_end(self._delete(document))

    async def _delete(self, document: str) -> Document:
        deleted = await self._library.delete(document)
        keys = {} if deleted.replaced else await self._library.object_keys([deleted.id], earlier=True)
        await self._remover.forget({deleted.id: deleted.object_key, **keys})
        return deleted

    def wake(self) -> None:
        """An engine came (back): fill missing embeddings and compare the index now."""
        self._backfill.wake()
        self.reconciler.wake()

    async def sweep(self) -> None:
        """Remove originals that no document has, now instead of by the hour. Raises NotHereNow."""
        await self._remover.sweep()

    async def compare(self) -> None:
        """Make the index equal to the library now; where documents are processed. Raises NotHereNow."""
        await self.reconciler.reconcile()

    @property
    def working(self) -> bool:
        """Whether documents are on their way here."""
        return bool(len(self._line))

    # --- the background work ---------------------------------------------------------------------

    async def run(self) -> None:
        """Process documents until cancelled."""
        pipeline = Pipeline(
            self._line, self._arrived, self._ports, self._embedding, reconciler=self.reconciler,
            backfill=self._backfill, clock=self._clock,
        )  # fmt: skip
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._poll())
                group.create_task(pipeline.run())
                group.create_task(self._backfill.run())
                group.create_task(self.reconciler.run())
                group.create_task(self._remover.run())
        finally:
            self._line.clear()

    async def _poll(self) -> None:
        """Find what the library has unfinished: at once, when something was accepted here, and every moment for what
        was accepted elsewhere, or by a request that was cut off; and what stood aside for long enough, and that an
        engine has moved."""
        engines, away = self._engines(), False
        while True:
            self._news.clear()
            before, engines = engines, self._engines()
            if engines != before:
                self.wake()
            if self._line.due(self._clock.monotonic()):
                self._arrived.set()
            try:
                if self._line.waiting < LOOK_BELOW:
                    await foreseen(self._queue_unfinished(), log, "documents not looked for")
                away = False
            except MorganError as err:
                if not away:
                    log.warning("documents cannot be read yet", extra={"reason": err.message})
                away = True
            await wait_within(self._news, LOOK_EVERY_S)

    async def _queue_unfinished(self) -> None:
        """Oldest first. What is finished here while the library is read may be unfinished in its answer."""
        known = self._line.under_way()
        found = [
            *await everything(self._library, DocumentState.PROCESSING),
            *await everything(self._library, DocumentState.PENDING),
        ]
        new = sorted((one for one in found if one.id not in known), key=lambda one: one.created)
        if self._line.add(one.id for one in new):
            self._arrived.set()
