"""From a question to ranked passages, with whatever is there: index, embedder, reranker, or none of them.

Each missing part is replaced by the next best thing and told to the person in a notice.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from morgand.assistant.rag.fuse import Ranked, fuse_rerank, rank_passages
from morgand.errors import Unavailable
from morgand.ports import Embedder, Library, Reranker, SearchLegs, VectorHit, Vectors
from morgand.state import Level, Passage, StoredChunk

log = logging.getLogger("morgand.retrieve")

LEG_LIMIT = 200  # candidates of each leg and level
PER_COARSE = 3  # passages from one coarse chunk: variety before repetition
SPARE = 2  # more passages than asked for are loaded, because equal texts are dropped

NOTICE_UNRANKED = "The reranker is not available; the passages are in retrieval order."
NOTICE_KEYWORDS = "The embedder is not available; the documents were searched by keywords only."
NOTICE_FULL_TEXT = "The search index is not available; the documents were searched by full text."


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Passages, best first, and what was missing."""

    passages: tuple[Passage, ...]
    notices: tuple[str, ...] = ()


class Retriever:
    """Search over the documents. A part that is None or raises Unavailable is done without."""

    def __init__(
        self, vectors: Vectors | None, embedder: Embedder | None, reranker: Reranker | None, library: Library
    ) -> None:
        self._vectors = vectors
        self._embedder = embedder
        self._reranker = reranker
        self._library = library

    async def search(
        self, text: str, limit: int, *, rerank: bool = True, candidates: int = 20, budget_s: float = 2.0
    ) -> Retrieved:
        """At most ``limit`` passages. The cross-encoder sees ``candidates`` of them for at most ``budget_s``."""
        notices: list[str] = []
        ranked = _varied(rank_passages(await self._legs(text, notices)))
        ranked = ranked[: max(limit, candidates if rerank else 0) + SPARE]
        chunks = await self._library.chunks_by_id([one.medium for one in ranked])
        ranked = _distinct(ranked, chunks)
        if rerank and candidates:
            ranked = await self._reranked(text, ranked, chunks, candidates, budget_s, notices)
        return Retrieved(tuple(await self._passages(ranked[:limit], chunks)), tuple(notices))

    async def _legs(self, text: str, notices: list[str]) -> SearchLegs:
        embedding = await self._embedding(text)
        if self._vectors is not None:
            try:
                legs = await self._vectors.search(text, embedding, limit=LEG_LIMIT)
            except Unavailable as err:
                log.warning("index not available", extra={"reason": err.message})
            else:
                if embedding is None:
                    notices.append(NOTICE_KEYWORDS)
                return legs
        notices.append(NOTICE_FULL_TEXT)
        return SearchLegs(dense={}, keyword=await self._full_text(text))

    async def _embedding(self, text: str) -> bytes | None:
        if self._embedder is None:
            return None
        try:
            return await self._embedder.embed_query(text)
        except Unavailable as err:
            log.warning("embedder not available", extra={"reason": err.message})
            return None

    async def _full_text(self, text: str) -> dict[Level, list[VectorHit]]:
        """The database's own search, at the medium level: it has no other legs to be steered by."""
        found = await self._library.keyword_search(text, Level.MEDIUM, limit=LEG_LIMIT)
        chunks = await self._library.chunks_by_id([chunk for chunk, _ in found])
        hits = [
            VectorHit(chunk, chunks[chunk].document, Level.MEDIUM, chunks[chunk].parent_id or chunk, chunk, score)
            for chunk, score in found
            if chunk in chunks
        ]
        return {Level.MEDIUM: hits}

    async def _reranked(
        self,
        text: str,
        ranked: list[Ranked],
        chunks: dict[str, StoredChunk],
        candidates: int,
        budget_s: float,
        notices: list[str],
    ) -> list[Ranked]:
        head, tail = ranked[:candidates], ranked[candidates:]
        if not head:
            return ranked
        if self._reranker is None:
            notices.append(NOTICE_UNRANKED)
            return ranked
        started = time.monotonic()
        try:
            texts = [chunks[one.medium].chunk.text for one in head]
            scores = await self._reranker.scores(text, texts, budget_s=budget_s)
        except Unavailable as err:
            log.warning("reranker not available", extra={"reason": err.message})
            notices.append(NOTICE_UNRANKED)
            return ranked
        log.debug("reranked", extra={"passages": len(head), "ms": round((time.monotonic() - started) * 1000)})
        known = {one.medium: score for one, score in zip(head, scores, strict=True) if score is not None}
        by_id = {one.medium: one for one in head}
        return [by_id[medium] for medium in fuse_rerank([one.medium for one in head], known)] + tail

    async def _passages(self, ranked: Sequence[Ranked], chunks: dict[str, StoredChunk]) -> list[Passage]:
        """Scores that fall with the rank: after reranking the retrieval score alone would not."""
        fine = await self._library.chunks_by_id([one.fine for one in ranked if one.fine is not None])
        titles: dict[str, str] = {}
        for document in {one.document for one in ranked}:
            found = await self._library.document(document)
            titles[document] = found.title or found.name
        ceiling = 1.0
        passages = []
        for one in ranked:
            ceiling = min(ceiling, one.score)
            stored = chunks[one.medium]
            quote = fine[one.fine].chunk.text if one.fine in fine else None
            passages.append(
                Passage(
                    chunk=one.medium, document=one.document, title=titles[one.document], place=stored.chunk.place,
                    text=stored.chunk.text, score=round(ceiling, 6), quote=quote,
                )
            )  # fmt: skip
        return passages


def _varied(ranked: Sequence[Ranked]) -> list[Ranked]:
    """At most PER_COARSE passages from one coarse chunk."""
    seen: Counter[str] = Counter()
    kept = []
    for one in ranked:
        seen[one.coarse] += 1
        if seen[one.coarse] <= PER_COARSE:
            kept.append(one)
    return kept


def _distinct(ranked: Sequence[Ranked], chunks: dict[str, StoredChunk]) -> list[Ranked]:
    """Without chunks that are gone from the database, and each text once."""
    texts: set[str] = set()
    kept = []
    for one in ranked:
        if one.medium in chunks and (text := chunks[one.medium].chunk.text) not in texts:
            texts.add(text)
            kept.append(one)
    return kept
