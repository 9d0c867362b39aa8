"""Chunks nest, keep their limits and lose nothing, whatever the text."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from morgand.assistant.rag.chunk import COARSE_TOKENS, FINE_TOKENS, MEDIUM_TOKENS, chunk
from morgand.assistant.rag.extract.types import Block
from morgand.state.assistant import Chunk, Level

LIMITS = {Level.COARSE: COARSE_TOKENS, Level.MEDIUM: MEDIUM_TOKENS, Level.FINE: FINE_TOKENS}
words = st.text(alphabet="abcäZ0漢.!?-|", min_size=1, max_size=30)
gaps = st.sampled_from([" ", " ", " ", "\n", ". ", "! ", "\n\n", "\t"])
texts = st.lists(st.tuples(words, gaps), max_size=150).map(lambda pairs: "".join(a + b for a, b in pairs))
headings = st.sampled_from(["", "Heating", "Heating > Pressure", "very long heading " * 10])
documents = st.lists(st.builds(Block, texts, st.sampled_from(["page 1", "page 2", "start"]), headings), max_size=8)


class Counter:
    """Tokens by words or by characters; remembers how often it was asked."""

    def __init__(self, *, by_char: bool) -> None:
        self.by_char = by_char
        self.calls = 0

    def __call__(self, pieces: list[str]) -> list[int]:
        self.calls += 1
        return [len(piece) if self.by_char else len(piece.split()) for piece in pieces]


def level(chunks: tuple[Chunk, ...], wanted: Level) -> list[Chunk]:
    return [one for one in chunks if one.level is wanted]


@settings(deadline=None, max_examples=150)
@given(documents, st.booleans())
def test_nesting_limits_and_order(blocks: list[Block], by_char: bool) -> None:
    """Each chunk lies in one parent, in reading order, within its limit; the tokeniser is asked once."""
    counter = Counter(by_char=by_char)
    chunks = chunk(blocks, counter)
    assert counter.calls == 1
    assert chunks == chunk(blocks, Counter(by_char=by_char))
    for one in chunks:
        assert 0 < one.tokens <= LIMITS[one.level], one
        assert one.text.strip()
    for inner, outer in ((Level.FINE, Level.MEDIUM), (Level.MEDIUM, Level.COARSE)):
        children, parents = level(chunks, inner), level(chunks, outer)
        assert [one.index for one in children] == list(range(len(children)))
        found = [-1 if one.parent is None else one.parent for one in children]
        assert found == sorted(found)
        assert set(found) == set(range(len(parents)))
    mediums, coarses = level(chunks, Level.MEDIUM), level(chunks, Level.COARSE)
    for one in level(chunks, Level.FINE):
        medium = mediums[one.parent or 0]
        assert one.text in medium.text
        assert one.text in coarses[medium.parent or 0].text


@settings(deadline=None, max_examples=150)
@given(documents, st.booleans())
def test_nothing_is_lost(blocks: list[Block], by_char: bool) -> None:
    """The fine chunks hold every character of the document but white space, in order."""
    fine = level(chunk(blocks, Counter(by_char=by_char)), Level.FINE)
    whole = "".join("".join(block.text.split()) for block in blocks)
    assert "".join("".join(one.text.split()) for one in fine) == whole


def test_a_megabyte_without_a_space() -> None:
    """Text without any boundary is cut all the same, in linear time."""
    for text in ("x" * 1_000_000, "a." * 500_000, "a. b" * 250_000):
        assert len(level(chunk([Block(text, "start")], Counter(by_char=False)), Level.FINE)) > 100
