"""The embedding stage of ingestion: texts of many documents share batches, two batches are always in flight.

While one batch is computed the next one already lies at the engine, so the engine never waits for us.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from morgand.assistant.rag.points import texts_to_embed
from morgand.base.clock import Clock
from morgand.base.errors import MorganError, NotHereNow
from morgand.state.assistant import Extracted
from morgand.state.ports import Embedder

log = logging.getLogger("morgand.assistant")

BATCH = 128  # texts a batch, sorted by length when computed; also the most documents that can share one
IN_FLIGHT = 2
LINGER_S = 0.02  # how long a part-filled batch waits for the next document before the engine runs out of work
PATIENCE_S = 10.0  # an engine that is just starting is waited for; then documents go on without embeddings
PAUSE_S = 0.5
GIVEN_UP_S = 30.0  # afterwards nobody waits for it again for this long


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


class EmbedStage:
    """Takes extracted documents, hands them on in the same order, and fills their vectors meanwhile."""

    def __init__(self, embedder: Embedder, clock: Clock) -> None:
        self._embedder = embedder
        self._clock = clock
        self._batches: asyncio.Queue[list[Item]] = asyncio.Queue(maxsize=1)
        self._busy = 0  # batches that are not embedded yet
        self._hopeless_until = 0.0

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
            while len(buffer) >= BATCH:
                await self._send(buffer[:BATCH])
                buffer = buffer[BATCH:]

    async def embed(self) -> None:
        """One of the IN_FLIGHT workers."""
        while True:
            batch = await self._batches.get()
            try:
                vectors = await self.vectors([text for _, text in batch])
            finally:
                self._busy -= 1
            for (work, text), vector in zip(batch, vectors, strict=True):
                if vector is not None:
                    work.vectors[text] = vector
                work.settle(1)

    async def vectors(self, texts: list[str]) -> list[bytes | None]:
        """Embeddings, or None for each when there is no embedder even after waiting for one that starts."""
        deadline = self._clock.monotonic() + PATIENCE_S
        while True:
            try:
                return list(await self._embedder.embed_passages(texts))
            except NotHereNow as err:
                now = self._clock.monotonic()
                if now >= deadline or now < self._hopeless_until:
                    log.warning("documents stored without embeddings", extra={"reason": err.message})
                    self._hopeless_until = now + GIVEN_UP_S
                    return [None] * len(texts)
                await self._clock.sleep(PAUSE_S)
            except MorganError as err:
                log.warning("texts the embedder refused", extra={"texts": len(texts), "reason": err.message})
                return [None] * len(texts)

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
