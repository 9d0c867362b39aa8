"""Latency of retrieval over 100,000 chunks: p50 and p95 of all legs, with the engine round trip and fusion.

``python -m benchmarks.retrieval_latency [--chunks N]``. Synthetic: texts are drawn word by word from a vocabulary of
20,000 by Zipf's law (60 words coarse, 60 medium, 20 fine); vectors are random unit vectors around 500 centres, which
is kinder to a graph than pure noise and harder than most real text. Target: p95 of 50 ms at most. The time to embed a
question is printed apart; it depends on the model and not on the number of chunks.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import numpy as np
import psutil

from benchmarks.running import DIMENSION, Engines
from morgand.assistant.rag.fuse import rank_passages
from morgand.assistant.rag.retrieve import LEG_LIMIT
from morgand.state.assistant import Level
from morgand.state.ports import VectorPoint

CHUNKS = 100_000
QUERIES = 300
SETTLE_S = 20.0
TARGET_MS = 50.0
LENGTHS = {Level.COARSE: 150, Level.MEDIUM: 60, Level.FINE: 20}
CENTRES = 500
VOCABULARY = 20_000


class Source:
    """Seeded texts and vectors."""

    def __init__(self) -> None:
        self._chance = np.random.default_rng(2)
        self._centres = self._chance.standard_normal((CENTRES, DIMENSION))

    def text(self, words: int) -> str:
        ranks = np.minimum(self._chance.zipf(1.2, words), VOCABULARY)
        return " ".join(f"word{rank}" for rank in ranks)

    def vector(self) -> bytes:
        near = self._centres[self._chance.integers(CENTRES)] + self._chance.standard_normal(DIMENSION)
        unit: bytes = (near / np.linalg.norm(near)).astype("<f4").tobytes()
        return unit

    def points(self, first: int, count: int) -> list[VectorPoint]:
        """Of ten chunks one is coarse, three are medium and six fine; forty are a document."""
        found = []
        for number in range(first, first + count):
            place = number % 10
            level = Level.COARSE if place == 0 else Level.MEDIUM if place < 4 else Level.FINE
            coarse = number - place
            medium = None if place == 0 else number if place < 4 else coarse + 1 + (place - 4) // 2
            found.append(
                VectorPoint(
                    str(UUID(int=number)), f"document {number // 40}", level, str(UUID(int=coarse)),
                    None if medium is None else str(UUID(int=medium)), self.text(LENGTHS[level]), self.vector(),
                )
            )  # fmt: skip
        return found


def show(name: str, took_ms: Sequence[float]) -> None:
    ordered = sorted(took_ms)
    print(
        f"{name}: p50 {statistics.median(ordered):.1f} ms, p95 {ordered[int(len(ordered) * 0.95)]:.1f} ms", flush=True
    )


async def searches(engines: Engines, source: Source, count: int) -> list[float]:
    took = []
    for _ in range(count):
        text, vector = source.text(8), source.vector()
        started = time.perf_counter()
        rank_passages(await engines.vectors.search(text, vector, limit=LEG_LIMIT))
        took.append((time.perf_counter() - started) * 1000)
    return took


async def embeddings(engines: Engines, count: int) -> list[float]:
    took = []
    for number in range(count):
        started = time.perf_counter()
        await engines.embedder.embed_query(f"how is the pressure of boiler number {number} set after it was bled")
        took.append((time.perf_counter() - started) * 1000)
    return took


async def run(chunks: int) -> None:
    source = Source()
    with tempfile.TemporaryDirectory() as folder:
        async with Engines(Path(folder), ("embedder", "vectors")) as engines:
            writing = 0.0
            for first in range(0, chunks, 5000):
                points = source.points(first, min(5000, chunks - first))
                started = time.perf_counter()
                await engines.vectors.upsert(points)
                writing += time.perf_counter() - started
            print(f"{chunks} chunks written at {chunks / writing:.0f}/s", flush=True)
            show("search while the graph may still be built", await searches(engines, source, QUERIES // 3))
            await asyncio.sleep(SETTLE_S)
            show(f"search and fusion (target p95 {TARGET_MS:g} ms)", await searches(engines, source, QUERIES))
            show("embedding the question, apart", await embeddings(engines, QUERIES // 3))
            memory = psutil.Process(engines.pid("vectors")).memory_info().rss / 2**20
            disk = sum(file.stat().st_blocks * 512 for file in Path(folder).rglob("*") if file.is_file()) / 2**20
            print(f"index: {memory:.0f} MiB resident, {disk:.0f} MiB on disk")


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of retrieval.")
    parser.add_argument("--chunks", type=int, default=CHUNKS)
    asyncio.run(run(parser.parse_args().chunks))


if __name__ == "__main__":
    main()
