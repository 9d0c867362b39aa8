"""An index in memory that really searches: cosine similarity and shared words, per level."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Callable, Sequence

from morgand.base.errors import EngineError
from morgand.state.assistant import Level
from morgand.state.ports import SearchLegs, VectorHit, VectorPoint


class WordVectors:
    """``ports.Vectors``; can be away."""

    def __init__(self) -> None:
        self.points: dict[str, VectorPoint] = {}
        self.away = False

    async def upsert(self, points: Sequence[VectorPoint]) -> None:
        self._here()
        self.points.update({point.chunk: point for point in points})

    async def delete_documents(self, documents: Sequence[str]) -> None:
        self._here()
        self.points = {one: point for one, point in self.points.items() if point.document not in set(documents)}

    async def search(self, text: str, embedding: bytes | None, *, limit: int) -> SearchLegs:
        self._here()
        words = set(text.lower().split())

        def shared(point: VectorPoint) -> float:
            return float(len(words & set(point.text.lower().split())))

        def alike(point: VectorPoint) -> float:
            return cosine(embedding, point.embedding) if embedding and point.embedding else 0.0

        return SearchLegs(
            dense={level: self._best(level, alike, limit) for level in Level} if embedding else {},
            keyword={level: self._best(level, shared, limit) for level in Level},
        )

    async def counts(self) -> dict[str, int]:
        self._here()
        return dict(Counter(point.document for point in self.points.values()))

    def _best(self, level: Level, score: Callable[[VectorPoint], float], limit: int) -> list[VectorHit]:
        hits = [
            VectorHit(one.chunk, one.document, level, one.coarse, one.medium, score(one))
            for one in self.points.values()
            if one.level is level
        ]
        return sorted((hit for hit in hits if hit.score > 0), key=lambda hit: -hit.score)[:limit]

    def _here(self) -> None:
        if self.away:
            raise EngineError("There is no index.")


def cosine(one: bytes, other: bytes) -> float:
    first, second = (struct.unpack(f"<{len(side) // 4}f", side) for side in (one, other))
    lengths = math.hypot(*first) * math.hypot(*second)
    return sum(a * b for a, b in zip(first, second, strict=True)) / lengths if lengths else 0.0
