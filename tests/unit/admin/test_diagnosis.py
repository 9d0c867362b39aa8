"""What was seen, and what is told to be wrong with it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from morgand.admin.diagnosis import (
    CLOCK_S,
    LAG_BYTES,
    HostSeen,
    Stored,
    of_copies,
    of_hosts,
    of_keys,
    of_status,
    of_stores,
)
from morgand.security.keys import KeyRecord
from morgand.state.assistant import Document, DocumentState
from morgand.state.findings import Examination, FindingKind

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
WELL = Examination("1.0", NOW, NOW + timedelta(days=10), NOW + timedelta(days=20))
ATLAS, BOLT = HostSeen("h1", "atlas", WELL), HostSeen("h2", "bolt", WELL)


def document(name: str) -> Document:
    return Document(name, name, f"/{name}", "text/plain", 1, "0" * 64, f"key-{name}", DocumentState.COMPLETED, NOW, NOW)


A, B = document("a"), document("b")
EQUAL = Stored((A, B), frozenset({A.object_key, B.object_key}), {"a": 3, "b": 2}, {"a": 3, "b": 2})


def test_nothing_is_told_of_what_is_well() -> None:
    assert of_hosts([ATLAS, BOLT], NOW) == []
    assert of_copies({"bolt": 0, "comet": None}, "postgresql", 3) == []
    assert of_stores([EQUAL, EQUAL]) == []
    assert of_keys([KeyRecord("k", "me", "d", NOW, None)], NOW) == []
    assert of_status([]) == []


@pytest.mark.parametrize(
    ("bolt", "kind", "words"),
    [
        (replace(BOLT, found=None, error="it is silent."), FindingKind.HOST, "bolt could not be looked through: it is"),
        (replace(BOLT, skew_s=90.0), FindingKind.CLOCK, "The clock of bolt is 90 s ahead of this host's."),
        (replace(BOLT, skew_s=-600.0), FindingKind.CLOCK, "The clock of bolt is 10 min behind this host's."),
        (
            replace(BOLT, found=replace(WELL, certificate_renews=NOW - timedelta(days=2))),
            FindingKind.CERTIFICATE,
            "The certificate of bolt ends on 2026-05-21 and has not been renewed.",
        ),
        (
            replace(BOLT, found=replace(WELL, certificate_renews=NOW - timedelta(days=9), certificate_ends=NOW)),
            FindingKind.CERTIFICATE,
            "The certificate of bolt ended on 2026-05-01 and has not been renewed.",
        ),
        (replace(BOLT, found=replace(WELL, unreachable=("h1",))), FindingKind.PORT, "bolt does not reach atlas."),
        (
            replace(BOLT, found=replace(WELL, exposed=("/d/x", "/d/y"))),
            FindingKind.PERMISSIONS,
            "On bolt any user can read 2 files ('/d/x', '/d/y').",
        ),
        (
            replace(BOLT, found=replace(WELL, version="2.0")),
            FindingKind.VERSION,
            "The hosts run different versions: 1.0 on atlas; 2.0 on bolt.",
        ),
    ],
)
def test_what_is_wrong_with_a_host(bolt: HostSeen, kind: FindingKind, words: str) -> None:
    found = of_hosts([ATLAS, bolt], NOW)
    assert [one.kind for one in found] == [kind]
    assert found[0].text.startswith(words)
    assert found[0].remedy


def test_a_clock_is_not_blamed_for_an_answer_that_was_slow() -> None:
    """An answer that took ten seconds says what time it was over there within five."""
    assert of_hosts([ATLAS, replace(BOLT, skew_s=CLOCK_S + 4.0, within_s=5.0)], NOW) == []


def test_a_certificate_whose_renewal_is_under_way_is_well() -> None:
    found = replace(WELL, certificate_renews=NOW - timedelta(hours=2))
    assert of_hosts([replace(ATLAS, found=found)], NOW) == []


@pytest.mark.parametrize(
    ("lags", "engine", "hosts", "words"),
    [
        ({"bolt": LAG_BYTES + 1}, "postgresql", 2, "The copy of the database on bolt is 64 MB behind."),
        ({}, "sqlite", 2, "The database is a file on one host"),
        ({}, None, 3, "The database is a file on one host"),
    ],
)
def test_what_is_wrong_with_copies(lags: dict[str, int | None], engine: str | None, hosts: int, words: str) -> None:
    found = of_copies(lags, engine, hosts)
    assert [one.kind for one in found] == [FindingKind.COPIES]
    assert found[0].text.startswith(words)


def test_a_lone_host_is_not_blamed_for_its_file() -> None:
    assert of_copies({}, "sqlite", 1) == []


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        (
            {"objects": frozenset({A.object_key})},
            FindingKind.ORIGINALS,
            "The original of 1 document ('b') is missing; what was read from it is there.",
        ),
        (
            {"objects": frozenset({A.object_key, B.object_key, "x", "y"})},
            FindingKind.ORPHANS,
            "2 stored files belong to no document.",
        ),
        ({"index": {"a": 3, "b": 1}}, FindingKind.INDEX, "The index lacks 1 document."),
        ({"index": {"a": 3, "b": 2, "c": 1}}, FindingKind.INDEX, "The index has 1 document too much."),
    ],
)
def test_what_is_wrong_with_stores(changed: dict[str, Any], kind: FindingKind, words: str) -> None:
    look = replace(EQUAL, **changed)
    found = of_stores([look, look])
    assert [(one.kind, one.text) for one in found] == [(kind, words)]
    assert found[0].mendable is (kind is not FindingKind.ORIGINALS)


def test_what_was_only_on_its_way_is_not_told() -> None:
    """An upload is stored before its row is; a document is in the index before it is completed."""
    coming = replace(EQUAL, objects=frozenset({A.object_key, B.object_key, "new"}), index={"a": 3, "b": 2, "new": 1})
    assert of_stores([coming, EQUAL]) == []
    assert of_stores([EQUAL, coming]) == []


def test_stores_that_could_not_be_asked_are_not_blamed() -> None:
    nothing = Stored((A,), None, None, None)
    assert of_stores([nothing, nothing]) == []
    assert of_stores([]) == []


@pytest.mark.parametrize(("expires", "word"), [(NOW - timedelta(days=1), "ended"), (NOW + timedelta(days=6), "ends")])
def test_a_key_that_ends_soon_is_told(expires: datetime, word: str) -> None:
    found = of_keys([KeyRecord("k1", "laptop", "d", NOW, expires)], NOW)
    assert [one.text for one in found] == [f"The API key of laptop {word} on {expires:%Y-%m-%d}."]
    assert "k1" in found[0].remedy


def test_a_key_that_lasts_is_not_told() -> None:
    assert of_keys([KeyRecord("k1", "laptop", "d", NOW, NOW + timedelta(days=8))], NOW) == []


def test_warnings_of_the_status_say_themselves_what_to_do() -> None:
    assert [(one.kind, one.text) for one in of_status(["It is so: do that."])] == [
        (FindingKind.STATUS, "It is so: do that.")
    ]
