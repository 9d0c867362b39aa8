"""From a question to ranked passages, with whatever is there: index, embedder, reranker, or none of them.

Each missing part is replaced by the next best thing and told to the person in a notice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from morgand.assistant.rag.fuse import Ranked, fuse_rerank, rank_passages
from morgand.assistant.text import content_words
from morgand.base.errors import NotFound, NotHereNow
from morgand.state.assistant import Level, Passage, StoredChunk
from morgand.state.ports import Embedder, Library, Reranker, SearchLegs, VectorHit, Vectors

log = logging.getLogger("morgand.assistant")

LEG_LIMIT = 200  # candidates of each leg and level
PER_COARSE = 3  # passages from one coarse chunk: variety before repetition
EMBED_S = 2.0  # a question is embedded in milliseconds; longer means something is wrong, and keywords are there
MAX_QUERY_CHARS = 4000  # of a long message, the beginning is searched for
SPARE = 2  # more passages than asked for are loaded at once, because equal texts are dropped

NOTICE_UNRANKED = "The reranker is not available; the passages are in retrieval order."
NOTICE_KEYWORDS = "The embedder is not available; the documents were searched by keywords only."
NOTICE_FULL_TEXT = "The search index is not available; the documents were searched by full text."


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Passages, best first, and what was missing."""

    passages: tuple[Passage, ...]
    notices: tuple[str, ...] = ()


class Retriever:
    """Search over the documents. A part that is None or raises NotHereNow is done without."""

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
        text = text[:MAX_QUERY_CHARS]
        found = rank_passages(await self._legs(text, notices))
        ranked, chunks = await self._different(found, max(limit, candidates if rerank else 0))
        if rerank and candidates:
            ranked = await self._reranked(text, ranked, chunks, notices, candidates=candidates, budget_s=budget_s)
        return Retrieved(tuple(await self._passages(text, ranked[:limit], chunks)), tuple(notices))

    async def _legs(self, text: str, notices: list[str]) -> SearchLegs:
        embedding = await self._embedding(text)
        if self._vectors is not None:
            try:
                legs = await self._vectors.search(text, embedding, limit=LEG_LIMIT)
            except NotHereNow as err:
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
            async with asyncio.timeout(EMBED_S):
                return await self._embedder.embed_query(text)
        except NotHereNow as err:
            log.warning("embedder not available", extra={"reason": err.message})
        except TimeoutError:
            log.warning("embedder not available", extra={"reason": f"no answer within {EMBED_S:g} s"})
        return None

    async def _full_text(self, text: str) -> dict[Level, list[VectorHit]]:
        """The database's own search, at each level."""
        found = {level: await self._library.keyword_search(text, level, limit=LEG_LIMIT) for level in Level}
        chunks = await self._library.chunks_by_id([chunk for hits in found.values() for chunk, _ in hits])
        parents = [stored.parent_id for stored in chunks.values() if stored.parent_id]
        chunks |= await self._library.chunks_by_id([one for one in parents if one not in chunks])
        return {level: [_hit(chunks[one], score, chunks) for one, score in hits if one in chunks]
                for level, hits in found.items()}  # fmt: skip

    async def _different(self, found: Sequence[Ranked], wanted: int) -> tuple[list[Ranked], dict[str, StoredChunk]]:
        """The best passages, ``wanted`` of them if there are, and their chunks: each text once, however many documents
        have it."""
        ranked: list[Ranked] = []
        chunks: dict[str, StoredChunk] = {}
        end = 0
        while len(ranked) < wanted and end < len(found):
            start, end = end, _end_of_tie(found, end + wanted + SPARE)
            chunks |= await self._library.chunks_by_id([one.medium for one in found[start:end]])
            ranked = _varied(_distinct(found[:end], chunks))
        return ranked, chunks

    async def _reranked(
        self,
        text: str,
        ranked: list[Ranked],
        chunks: dict[str, StoredChunk],
        notices: list[str],
        *,
        candidates: int,
        budget_s: float,
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
        except NotHereNow as err:
            log.warning("reranker not available", extra={"reason": err.message})
            notices.append(NOTICE_UNRANKED)
            return ranked
        log.debug("reranked", extra={"passages": len(head), "ms": round((time.monotonic() - started) * 1000)})
        known = {one.medium: score for one, score in zip(head, scores, strict=True) if score is not None}
        by_id = {one.medium: one for one in head}
        return [by_id[medium] for medium in fuse_rerank({one.medium: one.score for one in head}, known)] + tail

    async def _passages(self, text: str, ranked: Sequence[Ranked], chunks: dict[str, StoredChunk]) -> list[Passage]:
        """Scores that fall with the rank: after reranking the retrieval score alone would not."""
        fine = await self._library.fine_of([one.medium for one in ranked])
        titles = await self._titles({one.document for one in ranked})
        words = content_words(text)
        ceiling = 1.0
        passages = []
        for one in ranked:
            if one.document not in titles:
                continue
            ceiling = min(ceiling, one.score)
            stored = chunks[one.medium]
            quote = _quote(one.fine, fine.get(one.medium, ()), words)
            passages.append(
                Passage(
                    chunk=one.medium, document=one.document, title=titles[one.document], place=stored.chunk.place,
                    text=stored.chunk.text, score=round(ceiling, 6), quote=quote,
                )
            )  # fmt: skip
        return passages

    async def _titles(self, documents: set[str]) -> dict[str, str]:
        """What people call each document; one deleted since it was found is left out."""
        titles: dict[str, str] = {}
        for document in documents:
            try:
                found = await self._library.document(document)
            except NotFound:
                continue
            titles[document] = found.title or found.name
        return titles


def _hit(stored: StoredChunk, score: float, chunks: Mapping[str, StoredChunk]) -> VectorHit:
    """A full-text hit as if the index had found it."""
    level, parent = stored.chunk.level, stored.parent_id
    medium, coarse = None, stored.id
    if level is Level.MEDIUM:
        medium, coarse = stored.id, parent or stored.id
    elif level is Level.FINE:
        above = chunks.get(parent or "")
        medium, coarse = parent, (above.parent_id if above else None) or parent or stored.id
    return VectorHit(stored.id, stored.document, level, coarse, medium, score)


def _quote(hit: str | None, fine: Sequence[StoredChunk], words: frozenset[str]) -> str | None:
    """The fine chunk that was found; else the first of those that share most words with the question."""
    for stored in fine:
        if stored.id == hit:
            return stored.chunk.text
    return max((one.chunk.text for one in fine), key=lambda text: len(words & content_words(text)), default=None)


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
    """Without chunks that are gone from the database, and each text once. Of documents that have it alike the same one
    is taken each time, so that an answer from copies of one document cites one of them."""
    best: dict[str, Ranked] = {}  # by text, in the order in which texts come first
    for one in ranked:
        if one.medium not in chunks:
            continue
        first = best.setdefault(chunks[one.medium].chunk.text, one)
        if one.score == first.score and one.document < first.document:
            best[chunks[one.medium].chunk.text] = one
    return list(best.values())


def _end_of_tie(ranked: Sequence[Ranked], end: int) -> int:
    """The first place from ``end`` on that parts no passages of equal score: those of copies come together."""
    while 0 < end < len(ranked) and ranked[end].score == ranked[end - 1].score:
        end += 1
    return min(end, len(ranked))
