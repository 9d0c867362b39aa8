"""Whether an answer says what its passages say (pure).

A sentence is *supported* by a piece of text when every number in it occurs there and enough of its content words do.
For small models the piece is one sentence (they mix up neighbouring facts: ``the password is 192.168.20.1``) and a
figure of that sentence must not be dropped; for others it is the whole passage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from morgand.assistant.text import bare, content_words, is_finished, negated, numbers, sentences, without_loops

STRONG = 0.6  # share of a sentence's content words that must occur in what supports it
FEW_WORDS = 2  # fewer content words than this support nothing by themselves unless a number does


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence of a passage. ``passage`` is its number in the prompt, from 1; ``context`` its heading words."""

    text: str
    passage: int
    context: str = ""
    score: float = 0.0


def support(sentence: str, source: str, context: str = "") -> float:
    """Share of a sentence's content words found in the source; 0 when one of its numbers is not there."""
    if not numbers(sentence) <= numbers(source) | numbers(context):
        return 0.0
    said = content_words(sentence)
    if not said:
        return 0.0
    return len(said & (content_words(source) | content_words(context))) / len(said)


def best_support(sentence: str, sources: Sequence[Fact]) -> tuple[float, Fact | None]:
    """The source that supports a sentence best; the first of equals."""
    best: tuple[float, Fact | None] = (0.0, None)
    for source in sources:
        share = support(sentence, source.text, source.context)
        if share > best[0]:
            best = (share, source)
    return best


def tidy(text: str, *, cut_off: bool) -> str:
    """An answer without repetition loops and, when the model was cut off or looped, without its unfinished end."""
    kept = without_loops(text.strip())
    if not cut_off and kept == text.strip():
        return kept
    parts = sentences(kept)
    if len(parts) > 1 and not is_finished(parts[-1]):
        return kept[: kept.rfind(parts[-1])].rstrip()
    return kept


def supported_sentences(answer: str, question: str, facts: Sequence[Fact]) -> list[tuple[str, Fact]]:
    """The sentences of a small model's answer that one fact each bears out, with that fact.

    A sentence that only repeats the question says nothing and is left out; so is one that drops figures of its fact.
    """
    kept: list[tuple[str, Fact]] = []
    asked = content_words(question)
    for sentence in sentences(answer):
        share, fact = best_support(sentence, facts)
        if fact is None or share < STRONG or not is_finished(sentence):
            continue
        said = content_words(sentence)
        if (
            negated(sentence) != negated(fact.text)
            or said <= asked
            or (len(said) < FEW_WORDS and not numbers(sentence))
        ):
            continue
        if numbers(sentence) != numbers(fact.text) - numbers(question) and not numbers(fact.text) <= numbers(sentence):
            continue
        kept.append((sentence, fact))
    return kept


def quotation(facts: Sequence[Fact], question: str) -> list[Fact]:
    """What to quote when the model's own words do not hold: the best fact.

    A second one follows when the first is a mere lead-in (it ends in a colon or has fewer than four words).
    """
    if not facts:
        return []
    first = facts[0]
    lead_in = first.text.rstrip().endswith(":") or len(bare(first.text).split()) < 4
    answered = content_words(first.text) - content_words(question) or numbers(first.text)
    if len(facts) > 1 and (lead_in or not answered):
        return [first, facts[1]]
    return [first]
