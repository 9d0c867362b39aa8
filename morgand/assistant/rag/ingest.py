"""Documents in, documents out: accept, process in the background, delete everywhere.

Order of effects: object, row (pending), processing, completed with all its chunks in one transaction, index. Every
step can be repeated, so a daemon killed between any two of them goes on where it was: at start every document that is
not finished is processed again from its object, and the index is compared with the library.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from morgand.assistant.rag.accept import Acceptor
from morgand.assistant.rag.backfill import Backfill
from morgand.assistant.rag.embed import BATCH, IN_FLIGHT, EmbedJob, EmbedStage
from morgand.assistant.rag.points import index_points, stored_chunks
from morgand.assistant.rag.reconcile import Reconciler
from morgand.base.clock import Clock, SystemClock
from morgand.base.errors import MorganError, NotFound, NotHereNow
from morgand.config import Config
from morgand.state.assistant import Document, DocumentState, Extracted, StoredChunk
from morgand.state.ports import Cache, DocumentResult, Embedder, Extractor, Library, Objects, Upload, Vectors

log = logging.getLogger("morgand.assistant")

SEARCHES = "search:"  # prefix of cached search results: any change of the library makes them old
EXTRACTED_AHEAD = 4  # documents extracted and waiting for the embedder
READ_TOGETHER, READ_BYTES = 8, 64 * 1024  # documents in one call of the reader
PUBLISHED_TOGETHER = 32  # documents in one write of the index
PAUSE_S = 2.0
ATTEMPTS = 10  # of a document for which something is not there, before others go on without it
LATER_S = 60.0  # until such a document is tried again
PAGE = 1000
STARTED_TOGETHER = 16  # documents in one write of the library
COMPLETED_TOGETHER = 512  # chunks in one write of the library, or one document: a turn may wait for it
LOOK_EVERY_S = 1.0


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
        objects: Objects,
        extractor: Extractor,
        embedder: Embedder,
        vectors: Vectors,
        cache: Cache,
        settings: Callable[[], Config],
        spool_dir: Path,
        clock: Clock | None = None,
        shared: Callable[[], bool] = lambda: False,
    ) -> None:
        """``shared``: whether other hosts accept documents too, which this one then has to look for."""
        self.spool_dir = spool_dir
        self._shared = shared
        self._running = False
        self.reconciler = Reconciler(library, vectors)
        self._library = library
        self._objects = objects
        self._extractor = extractor
        self._vectors = vectors
        self._cache = cache
        self._clock = clock or SystemClock()
        self._acceptor = Acceptor(library, objects, settings, self._clock)
        self._stage = EmbedStage(embedder, self._clock)
        self._backfill = Backfill(library, self._stage, self.reconciler, self._clock)
        self._pending: deque[str] = deque()
        self._known: set[str] = set()  # queued or in the pipeline: a document is never in it twice
        self._arrived = asyncio.Event()
        self._attempts: dict[str, int] = {}
        self._later: dict[str, float] = {}  # documents that stand aside, and when they are tried again
        self._originals = asyncio.Lock()  # an object is not removed while a row for it is being made

    # --- from the API ----------------------------------------------------------------------------

    async def accept(self, uploads: Sequence[Upload]) -> list[tuple[Document, bool] | MorganError]:
        """Take over spooled files: durable when this returns; processed later. See ``Acceptor.take``."""
        async with self._originals:
            taken = await self._acceptor.take(uploads, waiting=len(self._known))
        for one in taken:
            # else the host that processes finds it in the library
            if not isinstance(one, MorganError) and one[1] and (self._running or not self._shared()):
                self._enqueue(one[0].id)
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
        return len(self._known)

    # --- the pipeline ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Process documents until cancelled: extract, embed, complete, each stage ahead of the next by a few."""
        self._running = True
        try:
            await self._run()
        finally:
            self._running = False
            self._pending.clear()  # the library has them; another host may process them before this one does again
            self._known.clear()
            self._attempts.clear()
            self._later.clear()

    async def _run(self) -> None:
        extracted: asyncio.Queue[EmbedJob] = asyncio.Queue(maxsize=EXTRACTED_AHEAD)
        finishing: asyncio.Queue[EmbedJob] = asyncio.Queue(maxsize=2 * BATCH)
        publishing: asyncio.Queue[Finished] = asyncio.Queue(maxsize=PUBLISHED_TOGETHER)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._resume())
            group.create_task(self._poll())
            group.create_task(self._extract(extracted))
            group.create_task(self._stage.batch(extracted, finishing))
            for _ in range(IN_FLIGHT):
                group.create_task(self._stage.embed())
            group.create_task(self._finish(finishing, publishing))
            group.create_task(self._publish(publishing))
            group.create_task(self._backfill.run())
            group.create_task(self.reconciler.run())

    async def _resume(self) -> None:
        """Queue what an earlier run accepted and did not finish, oldest first, before anything newer."""
        while True:
            try:
                found = await self._unfinished()
                break
            except NotHereNow as err:
                log.warning("documents cannot be read yet", extra={"reason": err.message})
                await self._clock.sleep(PAUSE_S)
        older = [document.id for document in found if document.id not in self._known]
        self._pending.extendleft(reversed(older))
        self._known.update(older)
        self._arrived.set()
        if older:
            log.info("ingestion resumed", extra={"documents": len(older)})
        await self._sweep()

    async def _poll(self) -> None:
        """Find what other hosts have accepted, and documents that stood aside for long enough."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for again in [one for one, when_s in self._later.items() if when_s <= self._clock.monotonic()]:
                del self._later[again]
                self._pending.append(again)
                self._arrived.set()
            if self._shared():
                with contextlib.suppress(NotHereNow):
                    for document in await self._library.documents(state=DocumentState.PENDING, limit=PAGE):
                        self._enqueue(document.id)

    async def _unfinished(self) -> list[Document]:
        found = await self._all(DocumentState.PROCESSING) + await self._all(DocumentState.PENDING)
        return sorted(found, key=lambda document: document.created)

    async def _all(self, state: DocumentState | None = None) -> list[Document]:
        found: list[Document] = []
        while page := await self._library.documents(state=state, limit=PAGE, offset=len(found)):
            found += page
        return found

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
        except NotHereNow as err:
            self._pending.extendleft(reversed(taken[1:]))
            await self._retry(taken[:1], err)
            return []
        for gone in set(taken) - {document.id for document in started}:
            self._done(gone)
        return started

    async def _read(self, documents: Sequence[Document], extracted: asyncio.Queue[EmbedJob]) -> None:
        """Read originals. One that is unreadable is told so in its row; for storage, or a reader, is waited."""
        paths = await asyncio.gather(*(self._objects.path(one.object_key) for one in documents), return_exceptions=True)
        there = [(path, one.name) for path, one in zip(paths, documents, strict=True) if isinstance(path, Path)]
        try:
            found = iter(await self._extractor.extract(there) if there else [])
        except NotHereNow as away:
            found = iter([away] * len(there))
        waiting: list[tuple[str, NotHereNow]] = []
        for path, document in zip(paths, documents, strict=True):
            match next(found) if isinstance(path, Path) else path:
                case Extracted() as content:
                    await extracted.put(EmbedJob(document.id, content))
                case NotHereNow() as err:
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
        except NotHereNow as err:
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
                await self._forget(await self._library.object_keys(sorted(gone)) if gone else {})
            except MorganError as err:
                log.warning("index not written", extra={"documents": len(ready), "reason": err.message})
                self.reconciler.wake(*(one.document for one in ready))
            for one in ready:
                log.info(
                    "ingested",
                    extra={"document": one.document, "chunks": len(one.chunks), "replaced": len(one.replaced)},
                )
                self._done(one.document)

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
            kept = set(await self._objects.keys())
            await self._drop_unused(kept - {document.object_key for document in await self._all()})
        except NotHereNow as err:
            log.warning("originals not swept", extra={"reason": err.message})

    async def _retry(self, documents: list[str], err: MorganError) -> None:
        """Not these documents' fault: they are tried again until it works, never given up.

        What is away is away for all, so they wait in their order; but one that met it ATTEMPTS times stands aside.
        """
        log.warning("ingestion waits", extra={"documents": documents, "reason": err.message})
        again = []
        for document in documents:
            self._attempts[document] = self._attempts.get(document, 0) + 1
            if self._attempts[document] < ATTEMPTS:
                again.append(document)
            else:
                self._later[document] = self._clock.monotonic() + LATER_S
                await self._notify(document, DocumentState.PENDING, err)
        if again:
            await self._clock.sleep(PAUSE_S)
            self._pending.extendleft(reversed(again))
            self._arrived.set()

    async def _fail(self, document: str, err: MorganError) -> None:
        """Tell in the document's row why it could not be read. A row that is gone was deleted meanwhile."""
        self._done(document)
        if isinstance(err, NotFound) and not await self._exists(document):
            return
        log.warning("document failed", extra={"document": document, "reason": err.message})
        await self._notify(document, DocumentState.FAILED, err)

    async def _notify(self, document: str, state: DocumentState, err: MorganError) -> None:
        """Write down in the document's row what became of it, and why; what cannot be written now is tried again."""
        try:
            await self._library.set_state(document, state, str(err))
        except MorganError as failure:
            log.warning("document state not stored", extra={"document": document, "reason": failure.message})
            if isinstance(failure, NotHereNow):
                self._known.add(document)
                self._later[document] = self._clock.monotonic() + LATER_S

    async def _exists(self, document: str) -> bool:
        try:
            await self._library.document(document)
        except NotFound:
            return False
        except NotHereNow:
            return True
        return True

    def _done(self, document: str) -> None:
        self._known.discard(document)
        self._attempts.pop(document, None)

    def _enqueue(self, document: str) -> None:
        if document not in self._known:
            self._known.add(document)
            self._pending.append(document)
            self._arrived.set()


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
