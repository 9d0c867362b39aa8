"""Merging ranked lists (pure).

Every leg's scores are brought to 0..1 (min-max), and keyword and dense legs are mixed at equal weight: the convex
mix that beats reciprocal rank fusion by half a point to a point (docs/adr/0005-retrieval.md). Within each, the
three chunk sizes count the same: a medium chunk is judged by itself, by its best fine chunk, and by the coarse chunk
around it, which steers: a good passage in a document about something else falls behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from morgand.state.assistant import Level
from morgand.state.ports import SearchLegs, VectorHit

DENSE_WEIGHT = 0.5
LEVEL_WEIGHTS = {Level.COARSE: 1 / 3, Level.MEDIUM: 1 / 3, Level.FINE: 1 / 3}
RERANK_WEIGHT = 0.25  # of the cross-encoder: it is right about short questions and wrong about long abstracts


@dataclass(frozen=True, slots=True)
class Ranked:
    """A medium chunk with its score in 0..1 and the fine chunk in it that matched best, if one did."""

    medium: str
    coarse: str
    document: str
    score: float
    fine: str | None


def minmax(hits: Sequence[VectorHit]) -> dict[str, float]:
    """Scores by chunk, scaled so that the best is 1 and the worst 0; equal scores are all 1."""
    return _scaled({hit.chunk: hit.score for hit in hits})


def _scaled(scores: Mapping[str, float]) -> dict[str, float]:
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    width = high - low
    return {one: (score - low) / width if width > 0 else 1.0 for one, score in scores.items()}


def rank_passages(legs: SearchLegs) -> list[Ranked]:
    """Medium chunks, best first; ties in order of their ids so that the same legs give the same ranking."""
    sides = [side for side in (legs.keyword, legs.dense) if any(side.values())]
    if not sides:
        return []
    weights = (1 - DENSE_WEIGHT, DENSE_WEIGHT) if len(sides) == 2 else (1.0,)
    candidates = _candidates(sides)
    total = dict.fromkeys(candidates, 0.0)
    for side, weight in zip(sides, weights, strict=True):
        for medium, score in _side_scores(side, candidates).items():
            total[medium] += weight * score
    fine = _best_fine(sides)
    ranked = [
        Ranked(medium, hit.coarse, hit.document, total[medium], fine.get(medium)) for medium, hit in candidates.items()
    ]
    return sorted(ranked, key=lambda one: (-one.score, one.medium))


def fuse_rerank(retrieved: Mapping[str, float], scores: Mapping[str, float]) -> list[str]:
    """Mix retrieval's scores with a cross-encoder's, each scaled to 0..1; never put the one in the other's place.

    ``retrieved`` is in retrieval order, best first. What the cross-encoder did not score keeps its place.
    """
    scored = [one for one in retrieved if one in scores]
    first = _scaled({one: retrieved[one] for one in scored})
    second = _scaled({one: scores[one] for one in scored})
    mixed = {one: (1 - RERANK_WEIGHT) * first[one] + RERANK_WEIGHT * second[one] for one in scored}
    best = iter(sorted(scored, key=lambda one: -mixed[one]))  # stable: ties stay in retrieval order
    return [next(best) if one in mixed else one for one in retrieved]


def _candidates(sides: Sequence[Mapping[Level, Sequence[VectorHit]]]) -> dict[str, VectorHit]:
    """Every medium chunk that was hit itself or through a fine chunk, with one of those hits."""
    found: dict[str, VectorHit] = {}
    for side in sides:
        for level in (Level.MEDIUM, Level.FINE):
            for hit in side.get(level, ()):
                if hit.medium is not None:
                    found.setdefault(hit.medium, hit)
    return found


def _side_scores(side: Mapping[Level, Sequence[VectorHit]], candidates: Mapping[str, VectorHit]) -> dict[str, float]:
    """One side's score of each candidate over the three levels, scaled to 0..1."""
    coarse = minmax(side.get(Level.COARSE, ()))
    medium = minmax(side.get(Level.MEDIUM, ()))
    fine: dict[str, float] = {}
    scaled = minmax(side.get(Level.FINE, ()))
    for hit in side.get(Level.FINE, ()):
        if hit.medium is not None:
            fine[hit.medium] = max(fine.get(hit.medium, 0.0), scaled[hit.chunk])
    return {
        one: LEVEL_WEIGHTS[Level.COARSE] * coarse.get(hit.coarse, 0.0)
        + LEVEL_WEIGHTS[Level.MEDIUM] * medium.get(one, 0.0)
        + LEVEL_WEIGHTS[Level.FINE] * fine.get(one, 0.0)
        for one, hit in candidates.items()
    }


def _best_fine(sides: Sequence[Mapping[Level, Sequence[VectorHit]]]) -> dict[str, str]:
    """The fine chunk of each medium chunk that ranks best on either side."""
    best: dict[str, tuple[int, str]] = {}
    for side in sides:
        for rank, hit in enumerate(side.get(Level.FINE, ())):
            if hit.medium is not None and (hit.medium not in best or rank < best[hit.medium][0]):
                best[hit.medium] = (rank, hit.chunk)
    return {medium: chunk for medium, (_, chunk) in best.items()}
