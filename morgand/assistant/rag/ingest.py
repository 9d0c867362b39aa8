"""Documents in, documents out: accept, process in the background, delete everywhere.

Order of effects: object, row (pending), processing, completed with all its chunks in one transaction, index. Every
step can be repeated, so a daemon killed between any two of them goes on where it was: at start every document that is
not finished is processed again from its object, and the index is compared with the library.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import mimetypes
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from morgand.assistant.rag.backfill import Backfill
from morgand.assistant.rag.embed import BATCH, IN_FLIGHT, EmbedStage, Work
from morgand.assistant.rag.points import index_points, stored_chunks
from morgand.assistant.rag.reconcile import Reconciler
from morgand.clock import Clock, SystemClock
from morgand.config import Config
from morgand.errors import MorganError, NotFound, Overloaded, TooLarge, Unavailable, Unreadable
from morgand.ports import Cache, Embedder, Extractor, Library, Objects, Vectors
from morgand.state import Document, DocumentState, StoredChunk

log = logging.getLogger("morgand.assistant")

SEARCHES = "search:"  # prefix of cached search results: any change of the library makes them old
EXTRACTED_AHEAD = 4  # documents extracted and waiting for the embedder
PUBLISHED_TOGETHER = 32  # documents in one write of the index
ATTEMPTS = 10  # per document while storage or an engine fails; then it is FAILED, its original is kept
PAUSE_S = 2.0
PAGE = 1000
STARTED_TOGETHER = 8  # documents in one write of the library
LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A document the library has completed, and the versions that are gone with that."""

    document: str
    chunks: list[StoredChunk]
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
        self._settings = settings
        self._clock = clock or SystemClock()
        self._stage = EmbedStage(embedder, self._clock)
        self._backfill = Backfill(library, self._stage, self.reconciler, self._clock)
        self._pending: deque[str] = deque()
        self._known: set[str] = set()  # queued or in the pipeline: a document is never in it twice
        self._arrived = asyncio.Event()
        self._attempts: dict[str, int] = {}
        self._originals = asyncio.Lock()  # an object is not removed while a row for it is being made

    # --- from the API ----------------------------------------------------------------------------

    async def accept(self, path: Path, *, name: str, source: str) -> tuple[Document, bool]:
        """Take over a spooled file: durable when this returns; processed later. The file at ``path`` is gone then.

        Returns the document and whether it is new: unchanged content of the same source is the one already there.
        Raises Unreadable (empty), TooLarge, Overloaded (too many wait), StorageFull.
        """
        try:
            size, digest = await asyncio.to_thread(_measure, path)
            self._check(name, size)
            async with self._originals:
                key = await self._objects.put_file(path)
                document, new = await self._library.add(self._new_document(name, source, size, digest, key))
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        if new and (self._running or not self._shared()):  # else the host that processes finds it in the library
            self._enqueue(document.id)
        return document, new

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

    async def _run(self) -> None:
        extracted: asyncio.Queue[Work] = asyncio.Queue(maxsize=EXTRACTED_AHEAD)
        finishing: asyncio.Queue[Work] = asyncio.Queue(maxsize=2 * BATCH)
        publishing: asyncio.Queue[Finished] = asyncio.Queue(maxsize=PUBLISHED_TOGETHER)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._resume())
            group.create_task(self._look())
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
            except Unavailable as err:
                log.warning("documents cannot be read yet", extra={"reason": err.message})
                await self._clock.sleep(PAUSE_S)
        older = [document.id for document in found if document.id not in self._known]
        self._pending.extendleft(reversed(older))
        self._known.update(older)
        self._arrived.set()
        if older:
            log.info("ingestion resumed", extra={"documents": len(older)})
        await self._sweep()

    async def _look(self) -> None:
        """Find what other hosts have accepted."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._shared():
                with contextlib.suppress(Unavailable):
                    for document in await self._library.documents(state=DocumentState.PENDING, limit=PAGE):
                        self._enqueue(document.id)

    async def _unfinished(self) -> list[Document]:
        found: list[Document] = []
        for state in (DocumentState.PROCESSING, DocumentState.PENDING):
            offset = 0
            while page := await self._library.documents(state=state, limit=PAGE, offset=offset):
                found += page
                offset += len(page)
        return sorted(found, key=lambda document: document.created)

    async def _extract(self, extracted: asyncio.Queue[Work]) -> None:
        while True:
            while not self._pending:
                self._arrived.clear()
                await self._arrived.wait()
            taken = [self._pending.popleft() for _ in range(min(STARTED_TOGETHER, len(self._pending)))]
            for document in await self._start(taken):
                work = await self._extract_one(document)
                if work is not None:
                    await extracted.put(work)

    async def _start(self, taken: list[str]) -> list[Document]:
        """Those of the documents that are still there; when storage is away they wait."""
        try:
            started = await self._library.start(taken)
        except Unavailable as err:
            self._pending.extendleft(reversed(taken[1:]))
            await self._retry(taken[0], err)
            return []
        for gone in set(taken) - {document.id for document in started}:
            self._done(gone)
        return started

    async def _extract_one(self, document: Document) -> Work | None:
        """Read one document's original. None when it is unreadable (told in its row) or has to wait."""
        try:
            path = await self._objects.path(document.object_key)
            return Work(document.id, await self._extractor.extract(path, document.name))
        except Unavailable as err:
            await self._retry(document.id, err)
        except MorganError as err:
            await self._fail(document.id, err)
        return None

    async def _finish(self, finishing: asyncio.Queue[Work], publishing: asyncio.Queue[Finished]) -> None:
        """Complete documents in the order they were accepted: a newer version always replaces an older one."""
        while True:
            work = await finishing.get()
            await work.embedded.wait()
            chunks = stored_chunks(work.document, work.extracted.chunks, work.vectors)
            try:
                replaced = await self._library.complete(work.document, work.extracted, chunks)
            except Unavailable as err:
                await self._retry(work.document, err)
            except MorganError as err:
                await self._fail(work.document, err)
            else:
                await publishing.put(Finished(work.document, chunks, replaced))

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
                await self._forget(await self._library.object_keys(sorted(gone)))
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
            except Unavailable:
                self.reconciler.wake()
        await self._drop_unused(set(keys.values()))
        await self._cache.drop(SEARCHES)

    async def _drop_unused(self, keys: Iterable[str]) -> None:
        for key in keys:
            async with self._originals:
                if not await self._library.object_used(key):
                    await self._objects.delete(key)

    async def _sweep(self) -> None:
        """Remove originals that no document has: a daemon that died between two steps of a removal left them."""
        try:
            await self._drop_unused(await self._objects.keys())
        except Unavailable as err:
            log.warning("originals not swept", extra={"reason": err.message})

    async def _retry(self, document: str, err: MorganError) -> None:
        """Not this document's fault: try it again after a pause, up to ATTEMPTS times."""
        self._attempts[document] = self._attempts.get(document, 0) + 1
        if self._attempts[document] >= ATTEMPTS:
            await self._fail(document, err)
            return
        log.warning("ingestion waits", extra={"document": document, "reason": err.message})
        await self._clock.sleep(PAUSE_S)
        self._pending.appendleft(document)
        self._arrived.set()

    async def _fail(self, document: str, err: MorganError) -> None:
        """Tell in the document's row why it could not be read. A row that is gone was deleted meanwhile."""
        self._done(document)
        if isinstance(err, NotFound) and not await self._exists(document):
            return
        log.warning("document failed", extra={"document": document, "reason": err.message})
        try:
            await self._library.set_state(document, DocumentState.FAILED, str(err))
        except MorganError as failure:  # it stays unfinished and is tried again at the next start
            log.warning("document state not stored", extra={"document": document, "reason": failure.message})

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

    def _enqueue(self, document: str) -> None:
        if document not in self._known:
            self._known.add(document)
            self._pending.append(document)
            self._arrived.set()

    def _check(self, name: str, size: int) -> None:
        limits = self._settings().limits
        if size == 0:
            raise Unreadable(f"{name!r} is empty.", remedy="Give a file that has content.")
        if size > limits.document_mb * 1024 * 1024:
            raise TooLarge(
                f"{name!r} has {size / 1048576:.0f} MiB; the limit is {limits.document_mb} MiB.",
                remedy="Split it, or raise limits.document_mb.",
            )
        if len(self._known) >= limits.ingest_queue:
            raise Overloaded(f"{len(self._known)} documents wait already.", retry_after_s=30.0)

    def _new_document(self, name: str, source: str, size: int, digest: str, key: str) -> Document:
        now = self._clock.now()
        return Document(
            id=str(uuid4()),
            name=name,
            source=source,
            mime=mimetypes.guess_type(name)[0] or "application/octet-stream",
            size_bytes=size,
            sha256=digest,
            object_key=key,
            state=DocumentState.PENDING,
            created=now,
            updated=now,
        )


def _measure(path: Path) -> tuple[int, str]:
    """Size in bytes and sha256 of a file's content."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest
