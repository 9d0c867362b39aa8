"""One run of ingestion: read, embed, index, complete, each stage ahead of the next by a few documents.

What a run remembers lives in an object of that run: however it is cancelled, the next one begins as new. Where a
document goes next is decided in ``way``; here it is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from morgand.assistant.rag.backfill import Backfill
from morgand.assistant.rag.embed import BATCH, IN_FLIGHT, Embedding, EmbedJob, EmbedStage
from morgand.assistant.rag.points import index_points, stored_chunks
from morgand.assistant.rag.reconcile import Reconciler
from morgand.assistant.rag.way import LATER_S, DocumentEvent, DocumentLine, judge, together
from morgand.base.aio import foreseen
from morgand.base.clock import Clock
from morgand.base.errors import MorganError, NotFound
from morgand.state.assistant import Document, DocumentState, Extracted
from morgand.state.ports import DocumentResult, Extractor, Library, Originals, Vectors

log = logging.getLogger("morgand.assistant")

EXTRACTED_AHEAD = 4  # documents extracted and waiting for the embedder
STARTED_TOGETHER = 16  # documents in one write of the library
INDEXED_TOGETHER = 32  # documents in one write of the index
STORED_TOGETHER = 512  # chunks in one write of the library, or one document: a turn may wait for it
PAUSE_S = 2.0

T = TypeVar("T")
Remove = Callable[[Mapping[str, str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PipelinePorts:
    """What documents pass through. ``remove`` takes documents (id to object key) out of index and originals, and
    whatever was found before out of the cache."""

    library: Library
    objects: Originals
    extractor: Extractor
    vectors: Vectors
    remove: Remove


@dataclass(frozen=True, slots=True)
class IndexedDocuments:
    """Documents with all their chunks, that go together. ``indexed``: the index has them."""

    documents: tuple[DocumentResult, ...]
    indexed: bool

    def ids(self) -> list[str]:
        return [one.document for one in self.documents]


class Pipeline:
    """Made for one ``run``. ``line`` says what waits, ``arrived`` is set when something new does."""

    def __init__(
        self, line: DocumentLine, arrived: asyncio.Event, ports: PipelinePorts, embedding: Embedding, *,
        reconciler: Reconciler, backfill: Backfill, clock: Clock,
    ) -> None:  # fmt: skip
        self._line, self._arrived, self._ports, self._clock = line, arrived, ports, clock
        self._reconciler, self._backfill = reconciler, backfill
        self._stage = EmbedStage(embedding, clock)
        self._held: EmbedJob | None = None  # taken from its queue, and not together with those before it

    async def run(self) -> None:
        """Until cancelled."""
        read: asyncio.Queue[EmbedJob] = asyncio.Queue(maxsize=EXTRACTED_AHEAD)
        embedding: asyncio.Queue[EmbedJob] = asyncio.Queue(maxsize=2 * BATCH)
        storing: asyncio.Queue[IndexedDocuments] = asyncio.Queue(maxsize=1)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._extract(read))
            group.create_task(self._stage.batch(read, embedding))
            for _ in range(IN_FLIGHT):
                group.create_task(self._stage.embed())
            group.create_task(self._index(embedding, storing))
            group.create_task(self._store(storing))

    # --- read ------------------------------------------------------------------------------------

    async def _extract(self, read: asyncio.Queue[EmbedJob]) -> None:
        while True:
            while not (taken := self._line.take(STARTED_TOGETHER)):
                self._arrived.clear()
                await self._arrived.wait()
            for documents in together(await self._start(taken)):
                await self._read(documents, read)

    async def _start(self, taken: list[str]) -> list[Document]:
        """Those of the documents that are still there; when the library is away all of them wait."""
        try:
            started = await self._foreseen(self._ports.library.start(taken))
        except MorganError as err:
            await self._wait(taken, DocumentEvent.LATER, err)
            return []
        there = {one.id for one in started}
        self._line.step([one for one in taken if one not in there], DocumentEvent.LOST)
        return started

    async def _read(self, documents: Sequence[Document], read: asyncio.Queue[EmbedJob]) -> None:
        """Read originals. One that is unreadable is told so in its row; for storage, or a reader, is waited."""
        failed: dict[str, MorganError] = {}
        for document, content in zip(documents, await self._contents(documents), strict=True):
            if isinstance(content, Extracted):
                self._line.step([document.id], DocumentEvent.READ)
                await read.put(EmbedJob(document.id, content))
            else:
                failed[document.id] = content
        await self._settle(failed)

    async def _contents(self, documents: Sequence[Document]) -> list[Extracted | MorganError]:
        async with AsyncExitStack() as reading:
            paths = await asyncio.gather(*(self._path(reading, one.object_key) for one in documents))
            there = [(path, one.name) for path, one in zip(paths, documents, strict=True) if isinstance(path, Path)]
            try:
                found = iter(await self._foreseen(self._ports.extractor.extract(there)) if there else [])
            except MorganError as err:
                if len(documents) > 1:  # each for itself, so that none stands in for another
                    return [(await self._contents([one]))[0] for one in documents]
                return [err]
            return [next(found) if isinstance(path, Path) else path for path in paths]

    async def _path(self, reading: AsyncExitStack, key: str) -> Path | MorganError:
        try:
            return await self._foreseen(reading.enter_async_context(self._ports.objects.reading(key)))
        except MorganError as err:
            return err

    # --- index -----------------------------------------------------------------------------------

    async def _index(self, embedding: asyncio.Queue[EmbedJob], storing: asyncio.Queue[IndexedDocuments]) -> None:
        """Write documents to the index, in the order they were accepted: whoever is told 'completed' finds them.

        A write of the index is on disk when it returns, which takes as long for many documents as for one. One that
        fails is repaired by reconciliation, never by doing it again.
        """
        while True:
            works = await self._embedded(embedding)
            documents = tuple(_completion(work) for work in works)
            ids = [work.document for work in works]
            self._line.step(ids, DocumentEvent.EMBEDDED)
            indexed = True
            try:
                points = index_points([chunk for one in documents for chunk in one.chunks])
                await self._foreseen(self._ports.vectors.upsert(points))
            except MorganError as err:
                log.warning("index not written", extra={"documents": len(ids), "reason": err.message})
                indexed = False
            self._line.step(ids, DocumentEvent.INDEXED)
            await storing.put(IndexedDocuments(documents, indexed))

    async def _embedded(self, embedding: asyncio.Queue[EmbedJob]) -> list[EmbedJob]:
        """The next document, once it is embedded, and those after it that are by then."""
        works = [self._held or await embedding.get()]
        self._held = None
        await works[0].embedded.wait()
        chunks = len(works[0].extracted.chunks)
        while not embedding.empty() and self._held is None:
            work = embedding.get_nowait()
            chunks += len(work.extracted.chunks)
            if work.embedded.is_set() and chunks <= STORED_TOGETHER and len(works) < INDEXED_TOGETHER:
                works.append(work)
            else:
                self._held = work
        return works

    # --- complete --------------------------------------------------------------------------------

    async def _store(self, storing: asyncio.Queue[IndexedDocuments]) -> None:
        while True:
            await self._complete(await storing.get())

    async def _complete(self, ready: IndexedDocuments) -> None:
        """All in one transaction; when that is refused each for itself, so that none stands in for another."""
        ids = ready.ids()
        try:
            replaced = await self._foreseen(self._ports.library.complete_many(ready.documents))
        except MorganError as err:
            if len(ids) > 1 and judge(err, 0) is DocumentEvent.REFUSED:
                for one in ready.documents:
                    await self._complete(IndexedDocuments((one,), ready.indexed))
            else:
                await self._settle(dict.fromkeys(ids, err))
                if not self._line.under_way().issuperset(ids):  # failed for good, and in the index
                    self._reconciler.wake()
            return
        lost = [one for one in ids if one not in replaced]  # deleted or overtaken meanwhile
        older = {document for documents in replaced.values() for document in documents}
        await self._remove({*lost, *older})
        kept = [one for one in ready.documents if one.document in replaced and one.document not in older]
        if any(chunk.embedding is None for one in kept for chunk in one.chunks):
            self._backfill.wake()
        if not ready.indexed:
            self._reconciler.wake(*(one.document for one in kept))
        for one in ready.documents:
            if one.document in replaced:
                about = {"document": one.document, "chunks": len(one.chunks), "replaced": len(replaced[one.document])}
                log.info("ingested", extra=about)
        self._line.step(lost, DocumentEvent.LOST)
        self._line.step([one for one in ids if one in replaced], DocumentEvent.STORED)

    async def _remove(self, documents: set[str]) -> None:
        """Documents that are not in the library any more: the index may have them, and their originals be there."""
        known = self._ports.library.object_keys
        try:
            keys = await self._foreseen(known(sorted(documents))) if documents else {}
            await self._foreseen(self._ports.remove(keys))
        except MorganError as err:
            log.warning("documents not removed", extra={"documents": len(documents), "reason": err.message})
            self._reconciler.wake()

    # --- what goes wrong -------------------------------------------------------------------------

    async def _settle(self, failed: Mapping[str, MorganError]) -> None:
        """Documents that cannot go on: told so in their rows, or tried again after a pause."""
        again = [one for one, err in failed.items() if not await self._finished(one, err)]
        if again:
            await self._wait(again, DocumentEvent.AWAY, failed[again[0]])

    async def _finished(self, document: str, err: MorganError) -> bool:
        """Whether nothing is left to do for it now: it is failed for good or stands aside, and its row says why, or
        it is gone."""
        found = judge(err, self._line.tries(document))
        if found is DocumentEvent.AWAY:
            return False
        state = DocumentState.FAILED if found is DocumentEvent.REFUSED else DocumentState.PENDING
        try:
            if isinstance(err, NotFound):
                await self._foreseen(self._ports.library.document(document))
            await self._foreseen(self._ports.library.set_state(document, state, str(err)))
        except NotFound:
            self._line.step([document], DocumentEvent.LOST)
            return True
        except MorganError as failure:
            log.warning("document state not stored", extra={"document": document, "reason": failure.message})
            return False
        about = {"document": document, "reason": err.message}
        if found is DocumentEvent.REFUSED:
            log.warning("document failed", extra=about)
            self._line.step([document], found)
        else:
            log.warning("document stands aside", extra=about)
            self._line.set_aside(document, self._clock.monotonic() + LATER_S)
        return True

    async def _wait(self, documents: list[str], event: DocumentEvent, err: MorganError) -> None:
        log.warning("ingestion waits", extra={"documents": documents, "reason": err.message})
        await self._clock.sleep(PAUSE_S)
        self._line.step(documents, event)
        self._arrived.set()

    async def _foreseen(self, work: Awaitable[T]) -> T:
        """A defect in what is done for a document costs that document, not all the others."""
        return await foreseen(work, log, "ingestion failed")


def _completion(work: EmbedJob) -> DocumentResult:
    chunks = stored_chunks(work.document, work.extracted.chunks, work.vectors)
    return DocumentResult(work.document, work.extracted.title, work.extracted.mime, tuple(chunks))
