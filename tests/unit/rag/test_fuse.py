"""Merging ranked lists."""

from __future__ import annotations

from morgand.assistant.rag.fuse import fuse_rerank, minmax, rank_passages
from morgand.state.assistant import Level
from morgand.state.ports import SearchLegs, VectorHit


def hit(
    chunk: str, score: float, level: Level = Level.MEDIUM, *, medium: str | None = None, coarse: str = "c"
) -> VectorHit:
    inside = medium or (chunk if level is Level.MEDIUM else None)
    return VectorHit(chunk, "doc", level, chunk if level is Level.COARSE else coarse, inside, score)


def order(legs: SearchLegs) -> list[str]:
    return [one.medium for one in rank_passages(legs)]


def test_minmax() -> None:
    """The best becomes 1, the worst 0, equal scores are all 1, and nothing stays nothing."""
    assert minmax([hit("a", 3.0), hit("b", 2.0), hit("c", 1.0)]) == {"a": 1.0, "b": 0.5, "c": 0.0}
    assert minmax([hit("a", 2.0), hit("b", 2.0)]) == {"a": 1.0, "b": 1.0}
    assert minmax([]) == {}


def test_nothing_found() -> None:
    """Empty legs give no passages."""
    assert rank_passages(SearchLegs({}, {})) == []
    assert rank_passages(SearchLegs({Level.MEDIUM: []}, {Level.COARSE: [hit("c", 1.0, Level.COARSE)]})) == []


def test_both_sides_beat_one() -> None:
    """A passage that is good in words and in meaning is before passages that are best in one of them."""
    keyword = {Level.MEDIUM: [hit("word", 10.0), hit("both", 9.0), hit("none", 0.0)]}
    dense = {Level.MEDIUM: [hit("sense", 0.9), hit("both", 0.85), hit("none", 0.1)]}
    assert order(SearchLegs(dense, keyword))[0] == "both"


def test_keyword_only() -> None:
    """Without an embedding the keyword legs decide alone, and the best passage still scores up to 1."""
    ranked = rank_passages(SearchLegs({}, {level: [hit("a", 2.0, level, medium="a", coarse="a")] for level in Level}))
    assert [(one.medium, round(one.score, 6)) for one in ranked] == [("a", 1.0)]


def test_coarse_steers() -> None:
    """Of two equal passages the one in the better coarse chunk is first."""
    medium = [hit("a", 1.0, coarse="off"), hit("b", 1.0, coarse="topic")]
    coarse = [hit("topic", 5.0, Level.COARSE), hit("off", 1.0, Level.COARSE)]
    assert order(SearchLegs({}, {Level.MEDIUM: medium, Level.COARSE: coarse})) == ["b", "a"]


def test_found_by_a_sentence() -> None:
    """A medium chunk that only its sentence brought up is a candidate, and the sentence is remembered."""
    ranked = rank_passages(SearchLegs({Level.FINE: [hit("s", 0.8, Level.FINE, medium="m")]}, {}))
    assert [(one.medium, one.fine) for one in ranked] == [("m", "s")]


def test_rerank_is_mixed_in() -> None:
    """The cross-encoder decides between near equals, and does not outdo a clear lead of retrieval."""
    near = {"a": 0.80, "b": 0.79, "c": 0.10}
    assert fuse_rerank(near, {"a": 0.1, "b": 0.9, "c": 0.5}) == ["b", "a", "c"]
    clear = {"a": 0.9, "b": 0.3, "c": 0.1}
    assert fuse_rerank(clear, {"a": -5.0, "b": 1.0, "c": 9.0}) == ["a", "b", "c"]
    assert fuse_rerank({"a": 0.9, "b": 0.3}, {}) == ["a", "b"]


def test_unscored_keep_their_place() -> None:
    """Passages the time budget did not reach stay where retrieval had them."""
    ranked = {"a": 0.5, "b": 0.5, "c": 0.4, "d": 0.3}
    assert fuse_rerank(ranked, {"a": 0.0, "b": 1.0}) == ["b", "a", "c", "d"]
