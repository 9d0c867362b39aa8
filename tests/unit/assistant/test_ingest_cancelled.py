"""The loops of ingestion, cancelled at every await and run again: core moves away and back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest

from morgand.assistant.rag.embed import BATCH
from morgand.assistant.rag.ingest import Ingestor
from morgand.config import Config
from morgand.state.assistant import DocumentState
from morgand.state.ports import Library
from tests.cancelling import LoopClock, survives
from tests.fakes.assistant import FolderObjects, HashEmbedder, LineExtractor, MemoryCache, MemoryVectors
from tests.fakes.library import MemoryLibrary
from tests.fakes.storage import new_document

POLL_S = 1.0
LONG = 5 * BATCH  # lines of a document that keeps the embedder busy with as much as it is ever given


class Ingestion:
    """Documents that other hosts accept are found, processed and in the index."""

    def __init__(self, folder: Path, *, away_s: float = 0.0) -> None:
        self._folder, self._away_s = folder, away_s
        self._library, self._vectors, self._embedder = MemoryLibrary(), MemoryVectors(), HashEmbedder()
        self._objects = FolderObjects(folder / f"objects-{uuid4()}")
        self.ingestor = Ingestor(
            library=cast("Library", self._library), objects=self._objects, extractor=LineExtractor(),
            embedder=self._embedder, vectors=self._vectors, cache=MemoryCache(), settings=Config,
            clock=LoopClock(),
        )  # fmt: skip

    async def run(self) -> None:
        await self.ingestor.run()

    async def works(self) -> None:
        self._embedder.away = bool(self._away_s)
        added = [await self._add(number) for number in range(3)]
        while [self._library.rows[one].state for one in added] != [DocumentState.COMPLETED] * 3:
            await asyncio.sleep(POLL_S)
        self._embedder.away = False
        self.ingestor.wake()
        await asyncio.sleep(self._away_s)
        while {one.document for one in self._vectors.points.values() if one.embedding} != set(self._library.rows):
            await asyncio.sleep(POLL_S)

    async def _add(self, number: int) -> str:
        path = self._folder / str(uuid4())
        lines = (f"line {line} of {path.name}" for line in range(LONG if number == 0 and not self._away_s else 2))
        path.write_text("\n".join(lines), "utf-8")
        document = new_document(source=f"/docs/{path.name}.txt", content=path.name)
        key = await self._objects.put_file(path)
        await self._library.add_many([replace(document, object_key=key)])
        return document.id


@pytest.mark.parametrize("away_s", [0.0, 40.0], ids=["in peace", "without an embedder for a while"])
def test_ingestion_works_as_new_wherever_it_was_cancelled(tmp_path: Path, away_s: float) -> None:
    assert survives(lambda: Ingestion(tmp_path, away_s=away_s), stride=2 if away_s else 1) > 20
