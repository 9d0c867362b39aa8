"""Citations always resolve; grounding keeps no number that is not in the passages."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from morgand.assistant.ground import Fact, supported_sentences, tidy
from morgand.assistant.rag.cite import cite
from morgand.assistant.text import numbers, sentences, without_loops
from morgand.state.assistant import Passage

WORDS = st.sampled_from([
    "boiler", "pressure", "rent", "940", "euros", "1.5", "bar", "deposit", "1,880", "due", "the", "is", "not", "[1]",
    "[2]", "[9]", "[1, 3]", "month.", "cold!", "F22", "18:30", "a\n",
])  # fmt: skip
TEXT = st.lists(WORDS, max_size=30).map(" ".join)
PASSAGES = st.lists(
    TEXT.map(lambda text: Passage(f"c{text}", "d", "Lease", "page 1", text, 1.0)), max_size=4
)  # fmt: skip


@given(TEXT | st.text(), PASSAGES)
def test_every_marker_left_leads_to_a_citation_and_every_citation_has_a_marker(
    answer: str, passages: list[Passage]
) -> None:
    text, citations = cite(answer, passages)
    used = {int(number) for number in re.findall(r"\[(\d+)\]", text)}
    assert used == {citation.number for citation in citations}
    assert all(citation.chunk == passages[citation.number - 1].chunk for citation in citations)


@given(TEXT | st.text(), TEXT, st.lists(TEXT, max_size=5))
def test_no_sentence_is_kept_with_a_number_its_fact_does_not_hold(answer: str, question: str, texts: list[str]) -> None:
    facts = [Fact(text, number) for number, text in enumerate(texts, start=1)]
    for sentence, fact in supported_sentences(answer, question, facts):
        assert numbers(sentence) <= numbers(fact.text)


@given(st.text() | TEXT)
def test_tidying_only_cuts_from_the_end(text: str) -> None:
    assert text.strip().startswith(tidy(text, cut_off=True))
    assert text.startswith(without_loops(text))


@given(st.text() | TEXT)
def test_splitting_into_sentences_keeps_every_word(text: str) -> None:
    assert " ".join(sentences(text)).split() == text.split()


def test_sentences_end_where_they_end() -> None:
    assert sentences("It is approx. 1.2 bar. See Fig. 3!\n- First item\n2. Second item") == [
        "It is approx. 1.2 bar.",
        "See Fig. 3!",
        "- First item",
        "2. Second item",
    ]


def test_loops_of_small_models_are_cut() -> None:
    assert without_loops("It is cold. It is very cold. It is cold. It is cold.") == "It is cold. It is very cold."
    looped = "use the valve to open the valve to open the valve to open the valve to open it"
    assert len(without_loops(looped)) < len(looped)


def test_unfinished_end_is_dropped_when_the_model_was_cut_off() -> None:
    assert tidy("The rent is 940 euros. It is due on the", cut_off=True) == "The rent is 940 euros."
    assert tidy("The rent is 940 euros", cut_off=False) == "The rent is 940 euros"
