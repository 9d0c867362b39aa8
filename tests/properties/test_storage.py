"""Storage, in sentences that hold for every input."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID, uuid4

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from morgand.state.assistant import Identity, Level
from morgand.storage.database import Database, sqlite_url
from morgand.storage.fulltext import MAX_TERMS, terms
from morgand.storage.history import SqlHistory, answer_id
from morgand.storage.intake import Version, adopted, outcome
from morgand.storage.library import SqlLibrary
from morgand.storage.migrate import upgrade
from morgand.storage.models import UtcTime, clean
from tests.fakes.storage import HandClock, added, completed, extracted, new_document, tree

OPERATORS = st.sampled_from(
    ['"', "'", "NEAR(", ")", "*", "-", ":", "^", "AND", "OR", "NOT", "{", "+", "🙂", "\x00", "boiler"]
)
ANY_TEXT = st.text(st.characters(), max_size=200)  # lone surrogates and NUL too
QUERIES = st.lists(st.one_of(ANY_TEXT, OPERATORS), max_size=20).map(" ".join)


def with_database(work: Callable[[Database], Awaitable[None]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            database = Database(sqlite_url(Path(folder) / "morgan.sqlite"))
            await database.open()
            await upgrade(database)
            try:
                await work(database)
            finally:
                await database.close()

    asyncio.run(run())


@settings(deadline=None, max_examples=15)
@given(st.lists(QUERIES, min_size=10, max_size=30))
def test_any_text_is_a_legal_query(queries: list[str]) -> None:
    """No text makes the search fail, and none finds more than there is."""

    async def work(database: Database) -> None:
        library = SqlLibrary(database, HandClock())
        document, _ = await added(library, new_document())
        await completed(library, document.id, extracted(), tree(document.id, ["boiler", *queries]))
        for query in queries:
            assert len(await library.keyword_search(query, Level.FINE, limit=100)) <= len(queries) + 1
        await library.delete(document.id)
        for query in [*queries, "boiler"]:
            assert await library.keyword_search(query, Level.FINE, limit=100) == []

    with_database(work)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(ANY_TEXT, st.integers(-100_000, 100_000)), min_size=1, max_size=20))
def test_messages_keep_their_order_and_text_whatever_the_clock_does(said: list[tuple[str, int]]) -> None:
    """What was stored comes back in the order it was stored."""

    async def work(database: Database) -> None:
        clock = HandClock()
        history = SqlHistory(database, clock)
        conversation = str(uuid4())
        for text, jump in said:
            clock.turn(jump)
            await history.store_message(str(uuid4()), conversation, text, tokens=1, user=None)
        assert [each.text for each in await history.messages(conversation)] == [clean(text) for text, _ in said]

    with_database(work)


@given(st.text(st.characters(), max_size=5000))
def test_terms_are_few_distinct_and_harmless(text: str) -> None:
    """No quote, no operator, no blank; bounded in number."""
    words = terms(text)
    assert len(words) == len(set(words)) <= MAX_TERMS
    assert all(character.isalnum() or character == "_" for word in words for character in word)


@given(st.datetimes(), st.integers(-14, 14))
def test_times_are_stored_in_utc_and_come_back_aware(moment: datetime, hours: int) -> None:
    """The same instant, whatever zone it was told in."""
    aware = moment.replace(year=max(2, min(moment.year, 9998)), tzinfo=timezone(timedelta(hours=hours)), fold=0)
    stored = UtcTime().process_bind_param(aware, sqlite.dialect())
    assert stored is not None
    assert stored.tzinfo is UTC
    read = UtcTime().process_result_value(stored.replace(tzinfo=None), sqlite.dialect())
    assert read == aware


@given(st.uuids(), st.uuids())
def test_answers_of_different_turns_have_different_ids(first: UUID, second: UUID) -> None:
    """And never the id of a turn."""
    assert (answer_id(first) == answer_id(second)) == (first == second)
    assert answer_id(first) not in {first, second}


SOME = st.sampled_from("ab")


@st.composite
def shelves(draw: st.DrawFn) -> list[Version]:
    """Live documents of few machines and paths; a revision is there once for each path."""
    places = draw(st.lists(st.tuples(SOME, SOME, st.integers(1, 9)), max_size=12, unique_by=lambda one: one[1:]))
    return [Version(uuid4(), Identity(machine, source), revision) for machine, source, revision in places]


@given(shelves(), st.data())
def test_a_completion_replaces_what_is_older_of_its_document_and_nothing_else(
    live: list[Version], data: st.DataObject
) -> None:
    """Nothing of another machine or path, nothing newer, nothing twice; in whatever order, the newest done remains."""
    order = data.draw(st.permutations(live).flatmap(lambda all_: st.integers(0, len(all_)).map(lambda n: all_[:n])))
    done = outcome([one.id for one in order], live)
    by_id = {one.id: one for one in live}
    gone = [older for replaced in done.values() for older in replaced]
    assert len({one.id for one in gone}) == len(gone)
    for document, replaced in done.items():
        ours = by_id[document]
        assert all(one.identity == ours.identity and one.revision < ours.revision for one in replaced)
    remaining = {one.id for one in live} - {one.id for one in gone}
    for identity in {one.identity for one in live}:
        newest = max((one.revision for one in order if one.identity == identity), default=0)
        kept = {one.id for one in live if one.identity == identity and one.revision >= newest}
        assert {one.id for one in live if one.identity == identity} & remaining == kept


@given(st.lists(st.tuples(SOME, SOME, SOME), max_size=6), st.lists(st.tuples(st.sampled_from(["", "a"]), SOME, SOME)))
def test_only_the_same_content_is_adopted_and_by_one_machine(
    sent: list[tuple[str, str, str]], there: list[tuple[str, str, str]]
) -> None:
    """Of the same path, by a machine that has none of its own."""
    given_ = [new_document(source, content, machine) for machine, source, content in sent]
    newest = {
        one.identity: one for one in (new_document(source, content, machine) for machine, source, content in there)
    }
    for nobodys, by in adopted(given_, newest).items():
        assert (nobodys.machine, nobodys.source) == ("", by.source)
        assert newest[nobodys].sha256 == by.sha256
        assert by.identity not in newest
