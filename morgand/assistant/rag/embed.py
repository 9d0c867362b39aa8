"""The embedding stage of ingestion: texts of many documents share batches, two batches are always in flight.

While one batch is computed the next one already lies at the engine, so the engine never waits for us. An engine that
stands back for people takes longer; batches get smaller then, so that none outlasts its deadline.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from morgand.assistant.rag.points import texts_to_embed
from morgand.base.aio import foreseen
from morgand.base.clock import Clock
from morgand.base.errors import MorganError, NotHereNow
from morgand.state.assistant import Extracted
from morgand.state.ports import Embedder

log = logging.getLogger("morgand.assistant")

BATCH = 128  # texts a batch at most, sorted by length when computed; also the most documents that can share one
SMALLEST = 8
LONG_S, SHORT_S = 10.0, 4.0  # a batch that takes longer is followed by smaller ones, one that takes less by larger
IN_FLIGHT = 2
LINGER_S = 0.02  # how long a part-filled batch waits for the next document before the engine runs out of work
PATIENCE_S = 10.0  # an engine that is just starting is waited for; then documents go on without embeddings
PAUSE_S = 0.5
GIVEN_UP_S = 30.0  # afterwards nobody waits for it again for this long


def batch_size(size: int, took_s: float) -> int:
    """Texts in the next batch, after one of ``size`` took so long."""
    if took_s > LONG_S:
        return max(SMALLEST, size // 2)
    return min(BATCH, 2 * size) if took_s < SHORT_S else size


@dataclass(slots=True)
class EmbedJob:
    """One document on its way through the pipeline; ``embedded`` is set when no text of it is outstanding."""

    document: str
    extracted: Extracted
    vectors: dict[str, bytes] = field(default_factory=dict)
    outstanding: int = 0
    embedded: asyncio.Event = field(default_factory=asyncio.Event)

    def settle(self, count: int) -> None:
        self.outstanding -= count
        if self.outstanding <= 0:
            self.embedded.set()


Item = tuple[EmbedJob, str]


class Embedding:
    """Embeddings from an engine that may be away. It remembers nothing but how long it is not waited for again."""

    def __init__(self, embedder: Embedder, clock: Clock) -> None:
        self._embedder = embedder
        self._clock = clock
        self._hopeless_until = 0.0

    async def vectors(self, texts: list[str]) -> list[bytes | None]:
        """Embeddings; None for each when there is no embedder even after waiting for one that starts, and for a text
        that it refuses."""
        deadline = self._clock.monotonic() + PATIENCE_S
        while True:
            try:
                return list(await foreseen(self._embedder.embed_passages(texts), log, "embedding failed"))
            except NotHereNow as err:
                now = self._clock.monotonic()
                if now >= deadline or now < self._hopeless_until:
                    log.warning("documents stored without embeddings", extra={"reason": err.message})
                    self._hopeless_until = now + GIVEN_UP_S
                    return [None] * len(texts)
                await self._clock.sleep(PAUSE_S)
            except MorganError as err:
                if len(texts) == 1:
                    log.warning("text the embedder refused", extra={"reason": err.message})
                    return [None]
                half = len(texts) // 2  # none stands in for another
                return [*await self.vectors(texts[:half]), *await self.vectors(texts[half:])]


class EmbedStage:
    """Takes extracted documents, hands them on in the same order, and fills their vectors meanwhile. For one run."""

    def __init__(self, embedding: Embedding, clock: Clock) -> None:
        self._embedding = embedding
        self._clock = clock
        self._batches: asyncio.Queue[list[Item]] = asyncio.Queue(maxsize=1)
        self._busy = 0  # batches that are not embedded yet
        self._size = BATCH

    async def batch(self, source: asyncio.Queue[EmbedJob], sink: asyncio.Queue[EmbedJob]) -> None:
        """Cut the texts of documents into batches. ``sink`` must hold more than BATCH documents (else deadlock)."""
        buffer: list[Item] = []
        while True:
            work = await self._next(source, waiting=bool(buffer))
            if work is None:
                await self._send(buffer)
                buffer = []
                continue
            texts = texts_to_embed(work.extracted.chunks)
            work.outstanding = len(texts)
            work.settle(0)
            buffer += [(work, text) for text in texts]
            await sink.put(work)
            while len(buffer) >= self._size:
                batch, buffer = buffer[: self._size], buffer[self._size :]
                await self._send(batch)

    async def embed(self) -> None:
        """One of the IN_FLIGHT workers."""
        while True:
            batch = await self._batches.get()
            began_s = self._clock.monotonic()
            vectors = await self._embedding.vectors([text for _, text in batch])
            self._size = batch_size(self._size, self._clock.monotonic() - began_s)
            self._busy -= 1
            for (work, text), vector in zip(batch, vectors, strict=True):
                if vector is not None:
                    work.vectors[text] = vector
                work.settle(1)

    async def _send(self, batch: list[Item]) -> None:
        self._busy += 1
        await self._batches.put(batch)

    async def _next(self, source: asyncio.Queue[EmbedJob], *, waiting: bool) -> EmbedJob | None:
        """The next document; None when a part-filled batch should go: the engine has only one left, or none."""
        if not waiting:
            return await source.get()
        while True:
            try:
                async with asyncio.timeout(LINGER_S):
                    return await source.get()
            except TimeoutError:
                if self._busy < IN_FLIGHT:
                    return None
