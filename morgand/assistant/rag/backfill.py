"""Fills in embeddings of documents that were stored while no embedder was there."""

from __future__ import annotations

import asyncio
import logging

from morgand.assistant.rag.embed import BATCH, Embedding
from morgand.assistant.rag.reconcile import Reconciler
from morgand.base.aio import foreseen, wait_within
from morgand.base.clock import Clock
from morgand.base.errors import MorganError
from morgand.state.ports import Library

log = logging.getLogger("morgand.assistant")

PAUSE_S = 30.0  # between attempts while chunks without embeddings remain


class Backfill:
    """Works at start, when a document was stored without embeddings, and when the embedder comes back."""

    def __init__(self, library: Library, embedding: Embedding, reconciler: Reconciler, clock: Clock) -> None:
        self._library = library
        self._embedding = embedding
        self._reconciler = reconciler
        self._clock = clock
        self._wake = asyncio.Event()

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            try:
                complete = await foreseen(self.fill(), log, "embeddings not filled in")
            except MorganError as err:
                log.warning("embeddings not filled in", extra={"reason": err.message})
                complete = False
            await wait_within(self._wake, None if complete else PAUSE_S)

    async def fill(self) -> bool:
        """Embed what has no embedding, and write it to the index. False when some had to be left."""
        filled = 0
        while chunks := await self._library.without_embeddings(BATCH):
            texts = list(dict.fromkeys(chunk.chunk.text for chunk in chunks))
            vectors = dict(zip(texts, await self._embedding.vectors(texts), strict=True))
            found = {chunk.id: vector for chunk in chunks if (vector := vectors[chunk.chunk.text]) is not None}
            if not found:
                return False
            await self._library.set_embeddings(found)
            self._reconciler.wake(*{chunk.document for chunk in chunks})
            filled += len(found)
        if filled:
            log.info("embeddings filled in", extra={"chunks": filled})
        return True
