"""What of the retrieved passages bears on a question: its best sentences, and whether there is anything at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from morgand.assistant.ground import Fact
from morgand.assistant.text import bare, content_words, is_finished, sentences
from morgand.base.errors import NotHereNow
from morgand.state.assistant import Passage
from morgand.state.ports import Reranker

# Cross-encoder scores are logits. An ms-marco model gives about -11 to unrelated pairs and above 0 to answers; short
# statements that do answer can lie a little below 0. So: clearly related by score, or nearly so and by words too.
RELATED = -3.0
NEARLY_RELATED = -7.0
WORDS_SHARED = 0.5  # share of the question's content words that occur in the passage, title and place
MARGIN = 1.5  # logits below the best sentence at which another one is no longer a candidate
MARGIN_WORDS = 0.25  # the same for scores by words

RANK_STEP = 0.5  # logits per rank of the passage: the cross-encoder's order is mixed with retrieval's, as for passages
CODE_BONUS = 4.0  # a sign the question names outweighs fluent likeness: ``E3`` is not ``the display blinks``

FACT_PASSAGES = 3
FACTS_SCORED = 24
FACTS_GIVEN = 4
FACT_CHARS = 500
LABEL_WORDS = 2  # ``E3``, ``Error codes``: says nothing by itself

SMALL_TALK = content_words(
    "hello hi hey thanks thank thx cheers good nice great cool fine okay ok morning afternoon evening night day bye "
    "goodbye welcome morgan please sorry today going well much lot really very there"
)
_CODE = re.compile(r"\b(?=[\w.-]*\d)\w[\w.-]*\w\b|\b\d\b")
_ASKING = frozenset(
    """tell show list give explain describe find name summarise summarize look what when where which who whom whose why
    how is are was were do does did can could should may must will would has have""".split()  # noqa: SIM905 - a list
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """``facts``: sentences that may answer, best first. ``relevant``: whether the passages bear on the question."""

    passages: tuple[Passage, ...] = ()
    facts: tuple[Fact, ...] = ()
    relevant: bool = False


def is_small_talk(text: str) -> bool:
    """A greeting, thanks or a question without any word to look up: nothing to search for."""
    return content_words(text) <= SMALL_TALK


def is_question(text: str) -> bool:
    """Whether a message asks for information."""
    words = text.lower().split()
    return text.rstrip().endswith("?") or (bool(words) and words[0].strip(",.:!'\"") in _ASKING)


def search_text(question: str, previous: str | None) -> str:
    """What to search for: a message that says little by itself (``and when is it due?``) with the one before it."""
    if previous and len(content_words(question)) < 2:
        return f"{previous} {question}"
    return question


def candidate_facts(passages: Sequence[Passage]) -> list[Fact]:
    """The sentences of the best passages, each once, in order of passage and place; quotes of further passages."""
    found: dict[str, Fact] = {}
    for number, passage in enumerate(passages, start=1):
        context = f"{passage.title} {passage.place}"
        texts = _pieces(passage.text) if number <= FACT_PASSAGES else _pieces(passage.quote or "")
        for text in texts:
            found.setdefault(text.lower(), Fact(text, number, context))
    quoted = [passage.quote or "" for passage in passages]
    ordered = sorted(found.values(), key=lambda fact: fact.text not in quoted[fact.passage - 1])
    return ordered[:FACTS_SCORED]


def by_words(question: str, facts: Sequence[Fact]) -> list[Fact]:
    """Facts with the share of the question's words they hold; their heading counts for a part."""
    asked = content_words(question)
    scored = []
    for fact in facts:
        said, around = content_words(fact.text), content_words(fact.context)
        share = (len(asked & said) + 0.5 * len(asked & (around - said))) / max(1, len(asked))
        scored.append(replace(fact, score=share - 0.05 * (fact.passage - 1)))
    return sorted(scored, key=lambda fact: fact.score, reverse=True)


def words_shared(question: str, passages: Sequence[Passage]) -> float:
    """The largest share of the question's content words that one passage holds, its title and place included."""
    asked = content_words(question)
    if not asked:
        return 0.0
    texts = (content_words(f"{item.title} {item.place} {item.text}") for item in passages)
    return max((len(asked & words) / len(asked) for words in texts), default=0.0)


def is_relevant(best: float | None, shared: float) -> bool:
    """``best``: the cross-encoder's best score, None without one; ``shared``: see ``words_shared``."""
    if best is None:
        return shared >= WORDS_SHARED
    return best >= RELATED or (best >= NEARLY_RELATED and shared >= WORDS_SHARED)


def nearest_facts(facts: Sequence[Fact], margin: float) -> tuple[Fact, ...]:
    """The best few: what lies far below the best one would only mislead."""
    return tuple(fact for fact in facts[:FACTS_GIVEN] if fact.score >= facts[0].score - margin)


async def weigh(reranker: Reranker | None, question: str, passages: Sequence[Passage], *, budget_s: float) -> Evidence:
    """Score the sentences of the passages; by words alone when there is no reranker or its time ran out."""
    facts = by_words(question, candidate_facts(passages))
    shared = words_shared(question, passages)
    if not facts:
        return Evidence(tuple(passages))
    scores = await _scores(reranker, question, facts, budget_s)
    if scores is None:
        return Evidence(tuple(passages), nearest_facts(facts, MARGIN_WORDS), is_relevant(None, shared))
    scored = [(fact, score) for fact, score in zip(facts, scores, strict=True) if score is not None]
    named = codes(question)
    ranked = sorted(
        (replace(fact, score=adjusted(fact, score, named)) for fact, score in scored),
        key=lambda fact: fact.score,
        reverse=True,
    )
    best = max(score for _, score in scored)
    return Evidence(tuple(passages), nearest_facts(ranked, MARGIN), is_relevant(best, shared))


def codes(text: str) -> frozenset[str]:
    """What a text calls by a sign with a digit in it: ``E3``, ``6021``, ``192.168.10.30``."""
    return frozenset(word.lower() for word in _CODE.findall(text))


def adjusted(fact: Fact, score: float, named: frozenset[str]) -> float:
    """A cross-encoder's score with what it does not see: the passage's rank in retrieval, and signs that must match."""
    bonus = CODE_BONUS if named & codes(fact.text) else 0.0
    return score + bonus - RANK_STEP * (fact.passage - 1)


async def _scores(
    reranker: Reranker | None, question: str, facts: Sequence[Fact], budget_s: float
) -> list[float | None] | None:
    if reranker is None:
        return None
    try:
        scores = await reranker.scores(question, [f"{fact.context}: {fact.text}" for fact in facts], budget_s=budget_s)
    except NotHereNow:
        return None
    return scores if any(score is not None for score in scores) else None


def _pieces(text: str) -> list[str]:
    """Sentences that say something: a label, or a lead-in that ends in a colon, goes with what follows it; a line that
    only goes on where the one before broke off (in tables and on pages of print) goes with that one."""
    found: list[str] = []
    lead = ""
    broken = False
    for sentence in sentences(text):
        piece = bare(sentence)
        if not piece:
            continue
        if broken and sentence[0].islower():
            found[-1] = f"{found[-1]} {piece}"[:FACT_CHARS]
        elif _is_lead(piece):
            lead = f"{lead} {piece}".strip()
            continue
        else:
            found.append(f"{lead} {piece}".strip()[:FACT_CHARS])
            lead = ""
        broken = not is_finished(piece)
    return [*found, lead] if lead else found


def _is_lead(piece: str) -> bool:
    return piece.endswith(":") or (len(piece.split()) <= LABEL_WORDS and not is_finished(piece))
