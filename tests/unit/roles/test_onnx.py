"""Mini-batches of the ONNX encoders."""

from __future__ import annotations

from morgand.roles.onnx import BATCH_TEXTS, BATCH_TOKENS, mini_batches


def test_every_text_is_in_exactly_one_batch() -> None:
    """Nothing is lost and nothing is computed twice."""
    lengths = [(7 * n) % 512 + 1 for n in range(500)]
    assert sorted(index for batch in mini_batches(lengths) for index in batch) == list(range(500))


def test_batches_are_bounded() -> None:
    """No batch holds more texts or padded tokens than allowed."""
    lengths = [(7 * n) % 512 + 1 for n in range(500)]
    for batch in mini_batches(lengths):
        assert len(batch) <= BATCH_TEXTS
        assert len(batch) * max(lengths[index] for index in batch) <= BATCH_TOKENS


def test_a_text_over_the_bound_is_alone() -> None:
    """One long text is a batch by itself instead of being refused."""
    assert list(mini_batches([BATCH_TOKENS + 1, 3])) == [[0], [1]]


def test_no_texts_no_batches() -> None:
    """Nothing in, nothing out."""
    assert list(mini_batches([])) == []
