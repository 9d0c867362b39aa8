"""The way of a document: what the table allows, who is next, and who has been tried often enough."""

from __future__ import annotations

import pytest

from morgand.assistant.rag.way import ATTEMPTS, IN_WORK, OUT, TABLE, DocumentEvent, DocumentLine, DocumentPlace, judge
from morgand.base.errors import EngineError, Fenced, MorganError, Unavailable, Unreadable


def test_every_place_leads_out_and_none_leads_back_in() -> None:
    """From each place a document can be finished, failed, gone or wait again; who is out is out."""
    assert not OUT & {place for place, _ in TABLE}
    for place in IN_WORK:
        assert TABLE[place, DocumentEvent.AWAY] is TABLE[place, DocumentEvent.LATER] is DocumentPlace.WAITING
        assert {TABLE[place, DocumentEvent.REFUSED], TABLE[place, DocumentEvent.LOST]} == {
            DocumentPlace.FAILED,
            DocumentPlace.GONE,
        }
    way = [DocumentPlace.WAITING]
    for event in (
        DocumentEvent.STARTED,
        DocumentEvent.READ,
        DocumentEvent.EMBEDDED,
        DocumentEvent.INDEXED,
        DocumentEvent.STORED,
    ):
        way.append(TABLE[way[-1], event])
    assert way == [DocumentPlace.WAITING, *IN_WORK, DocumentPlace.DONE]


def test_a_document_is_in_the_line_once_and_those_that_wait_again_come_first() -> None:
    line = DocumentLine()
    assert line.add(["a", "b", "a"]) == ["a", "b"]
    assert line.add(["b", "c", "d"]) == ["c", "d"]
    assert line.waiting == 4
    assert line.take(3) == ["a", "b", "c"]
    line.step(["a", "b"], DocumentEvent.AWAY)
    assert line.take(10) == ["a", "b", "d"]
    line.step(["a"], DocumentEvent.LOST)
    line.step(["b"], DocumentEvent.REFUSED)
    assert line.under_way() == {"c", "d"}
    assert line.add(["a", "d"]) == ["a"]


def test_what_the_table_does_not_know_raises() -> None:
    line = DocumentLine()
    line.add(["a"])
    with pytest.raises(KeyError):
        line.step(["a"], DocumentEvent.STORED)


def test_waiting_for_what_everybody_needs_is_no_try_of_a_documents_own() -> None:
    line = DocumentLine()
    line.add(["a"])
    for _ in range(3):
        line.step(line.take(1), DocumentEvent.LATER)
    assert line.tries("a") == 0
    line.step(line.take(1), DocumentEvent.AWAY)
    assert line.tries("a") == 1
    line.clear()
    assert (len(line), line.take(1), line.tries("a")) == (0, [], 0)


@pytest.mark.parametrize(
    ("err", "tries", "meant"),
    [
        (Unavailable(), 0, DocumentEvent.AWAY),
        (EngineError(), ATTEMPTS - 2, DocumentEvent.AWAY),
        (Fenced(), 0, DocumentEvent.AWAY),
        (Unavailable(), ATTEMPTS - 1, DocumentEvent.GIVEN_WAY),
        (Unreadable(), 0, DocumentEvent.REFUSED),
        (MorganError(), 0, DocumentEvent.REFUSED),
    ],
)
def test_what_a_failure_means(err: MorganError, tries: int, meant: DocumentEvent) -> None:
    assert judge(err, tries) is meant


def test_a_document_that_stands_aside_lets_others_pass_and_comes_again() -> None:
    """What it needs was away too often; it is never failed for that."""
    line = DocumentLine()
    line.add(["slow", "quick"])
    assert line.take(1) == ["slow"]
    line.set_aside("slow", until_s=60.0)
    assert line.take(2) == ["quick"]
    assert line.due(59.0) == []
    assert line.add(["slow"]) == []  # it is on its way
    assert line.due(60.0) == ["slow"]
    assert line.take(1) == ["slow"]
