"""An ingestor with everything around it: a real library, the other ports in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from morgand.assistant.rag.ingest import Ingestor
from morgand.config import Config, LimitsConfig
from morgand.state.assistant import Document, DocumentState
from morgand.state.ports import Library, Originals
from morgand.storage.library import SqlLibrary
from tests.fakes.assistant import FolderObjects, HashEmbedder, LineExtractor, MemoryCache, MemoryVectors
from tests.fakes.storage import HandClock

LIMITS = Config(limits=LimitsConfig(document_mb=1, ingest_queue=50))


@dataclass
class Bench:
    """What all hosts share: each ``ingestor`` is one host's."""

    library: SqlLibrary
    objects: FolderObjects
    embedder: HashEmbedder
    vectors: MemoryVectors
    cache: MemoryCache
    spool: Path
    extractor: LineExtractor = field(default_factory=LineExtractor)
    engines: str = "here"
    settings: Config = LIMITS

    def ingestor(self, *, library: Library | None = None, objects: Originals | None = None) -> Ingestor:
        return Ingestor(
            library=library or self.library,
            objects=objects or self.objects,
            extractor=self.extractor,
            embedder=self.embedder,
            vectors=self.vectors,
            cache=self.cache,
            settings=lambda: self.settings,
            clock=HandClock(),  # nobody waits for an engine in a test
            engines=lambda: self.engines,
        )

    def file(self, content: str) -> Path:
        path = self.spool / f"upload-{len(list(self.spool.iterdir()))}-{abs(hash(content))}"
        path.write_text(content, "utf-8")
        return path

    async def state(self, document: Document) -> DocumentState:
        return (await self.library.document(document.id)).state

    async def settled(self, ingestor: Ingestor) -> None:
        """Wait until everything that was accepted, on whatever host, is in its last state and in the index."""
        async with asyncio.timeout(20):
            while await self._unfinished() or ingestor.working:
                await asyncio.sleep(0.01)

    async def _unfinished(self) -> int:
        states = await self.library.states()
        return states["pending"] + states["processing"]


@asynccontextmanager
async def running(ingestor: Ingestor) -> AsyncIterator[None]:
    task = asyncio.create_task(ingestor.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)
