"""Documents in, documents out: accept, process in the background, delete everywhere.

Order of effects: object, row (pending), processing, completed with all its chunks in one transaction, index. Every
step can be repeated, so a daemon killed between any two of them goes on where it was. The library is the queue: what it
has unfinished is processed, whoever accepted it and whatever became of the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from morgand.assistant.rag.accept import Acceptor
from morgand.assistant.rag.backfill import Backfill
from morgand.assistant.rag.embed import BATCH, IN_FLIGHT, EmbedJob, EmbedStage
from morgand.assistant.rag.points import index_points, stored_chunks
from morgand.assistant.rag.reconcile import Reconciler
from morgand.assistant.rag.removal import Remover, everything
from morgand.base.aio import to_its_end
from morgand.base.clock import Clock, SystemClock
from morgand.base.errors import MorganError, NotFound, Unavailable
from morgand.config import Config
from morgand.state.assistant import Document, DocumentState, Extracted, StoredChunk
from morgand.state.ports import Cache, DocumentResult, Embedder, Extractor, Library, Originals, Upload, Vectors

log = logging.getLogger("morgand.assistant")

EXTRACTED_AHEAD = 4  # documents extracted and waiting for the embedder
READ_TOGETHER, READ_BYTES = 8, 64 * 1024  # documents in one call of the reader
PUBLISHED_TOGETHER = 32  # documents in one write of the index
ATTEMPTS = 10  # per document while storage or an engine fails; then it is FAILED, its original is kept
PAUSE_S = 2.0
STARTED_TOGETHER = 16  # documents in one write of the library
COMPLETED_TOGETHER = 512  # chunks in one write of the library, or one document: a turn may wait for it
LOOK_EVERY_S = 1.0
LOOK_BELOW = 256  # documents that wait here: with more there is enough to do


@dataclass(frozen=True, slots=True)
class Finished:
    """A document the library has completed, and the versions that are gone with that."""

    document: str
    chunks: tuple[StoredChunk, ...]
    replaced: list[str]


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
    ) -> None:
        self.reconciler = Reconciler(library, vectors)
        self._library = library
        self._objects = objects
        self._extractor = extractor
        self._vectors = vectors
        self._clock = clock or SystemClock()
        self._acceptor = Acceptor(library, objects, settings, self._clock)
        self._remover = Remover(library, objects, vectors, cache, self.reconciler)
        self._stage = EmbedStage(embedder, self._clock)
        self._backfill = Backfill(library, self._stage, self.reconciler, self._clock)
        self._pending: deque[str] = deque()
        self._known: set[str] = set()  # queued or in the pipeline: a document is never in it twice
        self._arrived = asyncio.Event()
        self._news = asyncio.Event()  # the library may have more than was found by the last look
        self._attempts: dict[str, int] = {}

    # --- from the API ----------------------------------------------------------------------------

    async def accept(self, uploads: Sequence[Upload]) -> list[tuple[Document, bool] | MorganError]:
        """Take over spooled files: durable when this returns; processed later. See ``Acceptor.take``."""
        try:
            return await self._acceptor.take(uploads)
        finally:
            self._news.set()  # however this ended: a row may be there

    async def delete(self, document: str) -> Document:
        """Delete a document everywhere: library, index, original, cached searches. Raises NotFound."""
        return await to_its_end(self._delete(document))

    async def _delete(self, document: str) -> Document:
        deleted = await self._library.delete(document)
        await self._remover.forget({deleted.id: deleted.object_key})
        return deleted

    def wake(self) -> None:
        """An engine came (back): fill missing embeddings and compare the index now."""
        self._backfill.wake()
        self.reconciler.wake()

    @property
    def working(self) -> bool:
        """Whether documents are in the pipeline here."""
        return bool(self._known)

    # --- the pipeline ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Process documents until cancelled: extract, embed, complete, each stage ahead of the next by a few."""
        try:
            await self._run()
        finally:
            self._pending.clear()  # the library has them; another host may process them before this one does again
            self._known.clear()

    async def _run(self) -> None:
        extracted: asyncio.Queue[EmbedJob] = asyncio.Queue(maxsize=EXTRACTED_AHEAD)
        finishing: asyncio.Queue[EmbedJob] = asyncio.Queue(maxsize=2 * BATCH)
        publishing: asyncio.Queue[Finished] = asyncio.Queue(maxsize=PUBLISHED_TOGETHER)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll())
            group.create_task(self._extract(extracted))
            group.create_task(self._stage.batch(extracted, finishing))
            for _ in range(IN_FLIGHT):
                group.create_task(self._stage.embed())
            group.create_task(self._finish(finishing, publishing))
            group.create_task(self._publish(publishing))
            group.create_task(self._backfill.run())
            group.create_task(self.reconciler.run())
            group.create_task(self._remover.run())

    async def _poll(self) -> None:
        """Queue what the library has unfinished: now, when something was accepted here, and every moment for what was
        accepted elsewhere, or by a request that was cut off."""
        away = False
        while True:
            self._news.clear()
            try:
                if len(self._pending) < LOOK_BELOW:
                    await self._queue_unfinished()
                away = False
            except Unavailable as err:
                if not away:
                    log.warning("documents cannot be read yet", extra={"reason": err.message})
                away = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._news.wait()

    async def _queue_unfinished(self) -> None:
        """Oldest first. What is finished here while the library is read may be unfinished in its answer."""
        known = frozenset(self._known)
        found = [
            *await everything(self._library, DocumentState.PROCESSING),
            *await everything(self._library, DocumentState.PENDING),
        ]
        new = sorted({one.id: one for one in found if one.id not in known}.values(), key=lambda one: one.created)
        self._known.update(one.id for one in new)
        self._pending.extend(one.id for one in new)
        self._arrived.set()

    async def _extract(self, extracted: asyncio.Queue[EmbedJob]) -> None:
        while True:
            while not self._pending:
                self._arrived.clear()
                await self._arrived.wait()
            taken = [self._pending.popleft() for _ in range(min(STARTED_TOGETHER, len(self._pending)))]
            for documents in together(await self._start(taken)):
                await self._read(documents, extracted)

    async def _start(self, taken: list[str]) -> list[Document]:
        """Those of the documents that are still there; when storage is away they wait."""
        try:
            started = await self._library.start(taken)
        except Unavailable as err:
            self._pending.extendleft(reversed(taken[1:]))
            await self._retry(taken[:1], err)
            return []
        for gone in set(taken) - {document.id for document in started}:
            self._done(gone)
        return started

    async def _read(self, documents: Sequence[Document], extracted: asyncio.Queue[EmbedJob]) -> None:
        """Read originals. One that is unreadable is told so in its row; for storage, or a reader, is waited."""
        async with AsyncExitStack() as reading:
            opening = [reading.enter_async_context(self._objects.reading(one.object_key)) for one in documents]
            paths = await asyncio.gather(*opening, return_exceptions=True)
            there = [(path, one.name) for path, one in zip(paths, documents, strict=True) if isinstance(path, Path)]
            found = iter(await self._extractor.extract(there) if there else [])
        waiting: list[tuple[str, Unavailable]] = []
        for path, document in zip(paths, documents, strict=True):
            match next(found) if isinstance(path, Path) else path:
                case Extracted() as content:
                    await extracted.put(EmbedJob(document.id, content))
                case Unavailable() as err:
                    waiting.append((document.id, err))
                case MorganError() as err:
                    await self._fail(document.id, err)
                case fault:
                    raise fault
        if waiting:
            await self._retry([document for document, _ in waiting], waiting[0][1])

    async def _finish(self, finishing: asyncio.Queue[EmbedJob], publishing: asyncio.Queue[Finished]) -> None:
        """Complete documents in the order they were accepted: a newer version always replaces an older one."""
        next_one: EmbedJob | None = None
        while True:
            ready = [next_one or await finishing.get()]
            next_one = None
            await ready[0].embedded.wait()
            chunks = len(ready[0].extracted.chunks)
            while not finishing.empty() and next_one is None:
                work = finishing.get_nowait()
                chunks += len(work.extracted.chunks)
                if work.embedded.is_set() and chunks <= COMPLETED_TOGETHER:
                    ready.append(work)
                else:
                    next_one = work
            for done in await self._complete([_completion(work) for work in ready]):
                await publishing.put(done)

    async def _complete(self, ready: list[DocumentResult]) -> list[Finished]:
        """All in one transaction; when that is refused each for itself, so that none stands in for another."""
        try:
            replaced = await self._library.complete_many(ready)
        except Unavailable as err:
            await self._retry([one.document for one in ready], err)
            return []
        except MorganError as err:
            if len(ready) > 1:
                return [done for one in ready for done in await self._complete([one])]
            await self._fail(ready[0].document, err)
            return []
        for one in ready:
            if one.document not in replaced:  # deleted or overtaken meanwhile
                self._done(one.document)
        return [Finished(one.document, one.chunks, replaced[one.document]) for one in ready if one.document in replaced]

    async def _publish(self, publishing: asyncio.Queue[Finished]) -> None:
        """Bring completed documents into the index, and the versions they replaced out of everything.

        The library has the truth by now: what fails here is repaired by reconciliation, never by doing it again. A
        write of the index is on disk when it returns, which takes as long for many documents as for one: those that
        completed meanwhile go together.
        """
        while True:
            ready = [await publishing.get()]
            while not publishing.empty():
                ready.append(publishing.get_nowait())
            gone = {document for one in ready for document in one.replaced}
            kept = [chunk for one in ready if one.document not in gone for chunk in one.chunks]
            if any(chunk.embedding is None for chunk in kept):
                self._backfill.wake()
            try:
                await self._vectors.upsert(index_points(kept))
                await self._remover.forget(await self._library.object_keys(sorted(gone)) if gone else {})
            except MorganError as err:
                log.warning("index not written", extra={"documents": len(ready), "reason": err.message})
                self.reconciler.wake(*(one.document for one in ready))
            for one in ready:
                log.info(
                    "ingested",
                    extra={"document": one.document, "chunks": len(one.chunks), "replaced": len(one.replaced)},
                )
                self._done(one.document)

    async def _retry(self, documents: list[str], err: MorganError) -> None:
        """Not these documents' fault: try them again after a pause, each up to ATTEMPTS times."""
        again = []
        for document in documents:
            self._attempts[document] = self._attempts.get(document, 0) + 1
            if self._attempts[document] >= ATTEMPTS:
                await self._fail(document, err)
            else:
                again.append(document)
        if again:
            log.warning("ingestion waits", extra={"documents": again, "reason": err.message})
            await self._clock.sleep(PAUSE_S)
            self._pending.extendleft(reversed(again))
            self._arrived.set()

    async def _fail(self, document: str, err: MorganError) -> None:
        """Tell in the document's row why it could not be read. A row that is gone was deleted meanwhile."""
        try:
            if isinstance(err, NotFound) and not await self._exists(document):
                return
            log.warning("document failed", extra={"document": document, "reason": err.message})
            await self._library.set_state(document, DocumentState.FAILED, str(err))
        except MorganError as failure:  # it stays unfinished and is tried again
            log.warning("document state not stored", extra={"document": document, "reason": failure.message})
        finally:
            self._done(document)

    async def _exists(self, document: str) -> bool:
        try:
            await self._library.document(document)
        except NotFound:
            return False
        except Unavailable:
            return True
        return True

    def _done(self, document: str) -> None:
        self._known.discard(document)
        self._attempts.pop(document, None)


def together(documents: Sequence[Document]) -> list[list[Document]]:
    """In their order, those that are read in one call: small ones, for which a call costs as much as reading them."""
    calls: list[list[Document]] = []
    room = 0
    for one in documents:
        if not calls or one.size_bytes > room or len(calls[-1]) == READ_TOGETHER:
            calls.append([])
            room = READ_BYTES
        calls[-1].append(one)
        room -= one.size_bytes
    return calls


def _completion(work: EmbedJob) -> DocumentResult:
    chunks = stored_chunks(work.document, work.extracted.chunks, work.vectors)
    return DocumentResult(work.document, work.extracted.title, work.extracted.mime, tuple(chunks))
