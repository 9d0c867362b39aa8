"""Merging ranked lists, for any lists."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from morgand.assistant.rag.fuse import fuse_rerank, rank_passages
from morgand.state.assistant import Level
from morgand.state.ports import SearchLegs, VectorHit

IDS = [f"m{number}" for number in range(8)]


@st.composite
def sides(draw: st.DrawFn) -> dict[Level, list[VectorHit]]:
    found: dict[Level, list[VectorHit]] = {}
    for level in Level:
        scores = draw(st.dictionaries(st.sampled_from(IDS), st.floats(-10, 10, allow_nan=False)))
        hits = [
            VectorHit(f"{level}-{one}" if level is Level.FINE else one, "d", level,
                      one if level is Level.COARSE else "c", None if level is Level.COARSE else one, score)
            for one, score in scores.items()
        ]  # fmt: skip
        found[level] = sorted(hits, key=lambda hit: -hit.score)
    return found


@given(sides(), sides())
def test_every_candidate_once_in_order(
    dense: dict[Level, list[VectorHit]], keyword: dict[Level, list[VectorHit]]
) -> None:
    """Each medium chunk hit at the medium or fine level appears once, by falling score between 0 and 1."""
    ranked = rank_passages(SearchLegs(dense, keyword))
    hit = {one.medium for side in (dense, keyword) for level in (Level.MEDIUM, Level.FINE) for one in side[level]}
    assert sorted(one.medium for one in ranked) == sorted(one for one in hit if one)
    scores = [one.score for one in ranked]
    assert scores == sorted(scores, reverse=True)
    assert all(-1e-9 <= score <= 1 + 1e-9 for score in scores)


@given(st.permutations(IDS), st.dictionaries(st.sampled_from(IDS), st.floats(-20, 20, allow_nan=False)))
def test_reranking_loses_nothing(order: list[str], scores: dict[str, float]) -> None:
    """Reranking only reorders; a cross-encoder that agrees changes nothing."""
    retrieved = {one: -float(place) for place, one in enumerate(order)}
    assert sorted(fuse_rerank(retrieved, scores)) == sorted(order)
    assert fuse_rerank(retrieved, retrieved) == order


@given(st.permutations(IDS), st.integers(0, len(IDS)), st.permutations(range(len(IDS))))
def test_unreached_stay_behind(order: list[str], reached: int, marks: list[int]) -> None:
    """When the budget reached only the head, the tail stays in its place behind it."""
    scores = {one: float(mark) for one, mark in zip(order[:reached], marks, strict=False)}
    retrieved = {one: -float(place) for place, one in enumerate(order)}
    assert fuse_rerank(retrieved, scores)[reached:] == order[reached:]
