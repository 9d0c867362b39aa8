"""Documents and chunks: replaced whole, deleted whole, found by words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import uuid4

import pytest

from morgand.base.errors import Conflict, NotFound
from morgand.state.assistant import Document, DocumentState, Level
from morgand.storage.database import Database
from morgand.storage.library import SqlLibrary
from morgand.storage.purge import purge
from tests.fakes.storage import HandClock, added, completed, extracted, new_document, tree


async def stored(library: SqlLibrary, texts: list[str], source: str = "/docs/a.pdf", content: str = "1") -> Document:
    document, new = await added(library, new_document(source, content))
    assert new
    await completed(library, document.id, extracted(), tree(document.id, texts))
    return await library.document(document.id)


async def test_a_completed_document_is_read_back(library: SqlLibrary) -> None:
    """Counts, title, chunks in order and the tree between them."""
    document = await stored(library, ["boiler pressure", "recipe of soup"])
    assert (document.state, document.chunks, document.embeddings) == (DocumentState.COMPLETED, 5, 5)
    assert document.title == "The boiler"
    chunks = await library.chunks(document.id)
    by_id = await library.chunks_by_id([chunk.id for chunk in chunks] + ["no uuid", str(uuid4())])
    assert by_id == {chunk.id: chunk for chunk in chunks}
    medium = [chunk for chunk in chunks if chunk.chunk.level is Level.MEDIUM]
    fine = await library.fine_of([chunk.id for chunk in medium])
    assert [[each.chunk.text for each in fine[chunk.id]] for chunk in medium] == [
        ["boiler pressure"],
        ["recipe of soup"],
    ]
    assert await library.live() == {document.id: 5}
    assert (await library.states())["completed"] == 1


async def test_the_same_content_of_a_source_is_there_already(library: SqlLibrary) -> None:
    """Nothing new is made for it, unless the last try failed."""
    first, _ = await added(library, new_document())
    assert await added(library, new_document()) == (first, False)
    await library.set_state(first.id, DocumentState.FAILED, "encrypted")
    second, new = await added(library, new_document())
    assert new
    assert second.id != first.id
    assert (await library.document(first.id)).error == "encrypted"


async def test_going_back_to_earlier_content_is_an_update(library: SqlLibrary) -> None:
    """A, B, A ends with A, though the first A was not replaced yet when it came again."""
    first = await stored(library, ["a"], content="A")
    second, _ = await added(library, new_document("/docs/a.pdf", "B"))
    third, new = await added(library, new_document("/docs/a.pdf", "A"))
    assert new
    await completed(library, second.id, extracted(), tree(second.id, ["b"]))
    assert await completed(library, third.id, extracted(), tree(third.id, ["a"])) == [second.id]
    assert list(await library.live()) == [third.id]
    assert first.id not in await library.live()


async def test_an_update_replaces_in_one_step(library: SqlLibrary) -> None:
    """Before it is complete the old one is found, after it only the new one, and never both or none."""
    old = await stored(library, ["old boiler"])
    new, _ = await added(library, new_document("/docs/a.pdf", "2"))
    seen: set[frozenset[str]] = set()

    async def watch() -> None:
        while frozenset([new.id]) not in seen:
            seen.add(frozenset(await library.live()))
            await asyncio.sleep(0)

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0.02)
    assert await completed(library, new.id, extracted(), tree(new.id, ["new boiler"] * 200)) == [old.id]
    await asyncio.wait_for(watcher, 30)
    assert seen == {frozenset([old.id]), frozenset([new.id])}
    assert await library.chunks(old.id) == []


async def test_an_overtaken_document_does_not_replace_its_successor(library: SqlLibrary) -> None:
    """A newer one of its source was completed first: the older one is gone and cannot be completed."""
    first, _ = await added(library, new_document("/docs/a.pdf", "1"))
    second = await stored(library, ["second"], content="2")
    assert await completed(library, first.id, extracted(), tree(first.id, ["first"])) is None
    assert list(await library.live()) == [second.id]
    assert await library.keyword_search("first", Level.FINE, limit=5) == []


async def test_an_older_document_leaves_a_newer_pending_one_alone(library: SqlLibrary) -> None:
    """It is found until the newer one is complete."""
    first, _ = await added(library, new_document("/docs/a.pdf", "1"))
    second, _ = await added(library, new_document("/docs/a.pdf", "2"))
    assert await completed(library, first.id, extracted(), tree(first.id, ["first"])) == []
    assert list(await library.live()) == [first.id]
    assert (await library.document(second.id)).state is DocumentState.PENDING


async def test_completing_again_after_a_crash_leaves_one_set_of_chunks(library: SqlLibrary) -> None:
    """The chunks of the try before are replaced."""
    document = await stored(library, ["one", "two"])
    assert await completed(library, document.id, extracted(), tree(document.id, ["three"])) == []
    assert len(await library.chunks(document.id)) == 3
    assert await library.keyword_search("one two", Level.MEDIUM, limit=5) == []


async def test_a_document_that_is_started_again_keeps_one_set_of_chunks(library: SqlLibrary) -> None:
    """It was complete already: completing it again, or its successor, leaves nothing of the first time."""
    document = await stored(library, ["one", "two"])
    await library.start([document.id])
    assert await completed(library, document.id, extracted(), tree(document.id, ["three"])) == []
    assert await library.live() == {document.id: 3}
    await library.start([document.id])
    newer = await stored(library, ["four"], content="2")
    assert await library.live() == {newer.id: 3}
    assert await library.keyword_search("one two three", Level.MEDIUM, limit=5) == []


async def test_a_failed_complete_changes_nothing(library: SqlLibrary) -> None:
    """A chunk that is there twice is refused, and what was there before is still whole."""
    old = await stored(library, ["old boiler"])
    new, _ = await added(library, new_document("/docs/a.pdf", "2"))
    chunks = tree(new.id, ["new"])
    with pytest.raises(Conflict):
        await completed(library, new.id, extracted(), [*chunks, chunks[-1]])
    assert await library.live() == {old.id: 3}
    assert len(await library.keyword_search("boiler", Level.FINE, limit=5)) == 1
    assert (await library.document(new.id)).state is DocumentState.PENDING


async def test_a_deleted_document_leaves_no_text(
    library: SqlLibrary, database: Database, clock: HandClock, anywhere: Callable[[str], Awaitable[bool]]
) -> None:
    """It is found by nothing at once; after a purge no byte of its text is in the files."""
    document = await stored(library, ["zanzibar boiler"])
    await stored(library, ["other boiler"], source="/docs/b.pdf")
    assert await anywhere("zanzibar")
    deleted = await library.delete(document.id)
    assert deleted.object_key == document.object_key
    assert len(await library.keyword_search("boiler", Level.FINE, limit=5)) == 1
    assert await library.keyword_search("zanzibar", Level.FINE, limit=5) == []
    for gone in (library.document, library.delete, library.chunks):
        with pytest.raises(NotFound):
            await gone(document.id)
    assert await completed(library, document.id, extracted(), tree(document.id, ["late"])) is None
    clock.turn(2 * 86_400)
    assert await purge(database, clock, older_than_days=1) == 1
    assert not await anywhere("zanzibar")


async def test_an_object_is_used_while_a_live_document_has_it(library: SqlLibrary) -> None:
    """Two sources with the same content share it."""
    first = await stored(library, ["x"], source="/docs/a.pdf")
    second = await stored(library, ["x"], source="/docs/b.pdf")
    assert first.object_key == second.object_key
    await library.delete(first.id)
    assert await library.object_used(first.object_key)
    await library.delete(second.id)
    assert not await library.object_used(first.object_key)


async def test_embeddings_that_were_missing_are_added(library: SqlLibrary) -> None:
    """Chunks stored while no embedder was there get theirs later; chunks gone by then are passed over."""
    document, _ = await added(library, new_document())
    await completed(library, document.id, extracted(), tree(document.id, ["a", "b"], embedding=None))
    missing = await library.without_embeddings(3)
    assert len(missing) == 3
    await library.set_embeddings({chunk.id: b"\1" * 8 for chunk in missing} | {str(uuid4()): b"\2" * 8})
    assert (await library.document(document.id)).embeddings == 3
    assert len(await library.without_embeddings(10)) == 2
    assert (await library.chunks_by_id([missing[0].id]))[missing[0].id].embedding == b"\1" * 8


async def test_words_rank_passages(library: SqlLibrary) -> None:
    """Word forms match, rare words count more, the level asked for is the one searched."""
    await stored(library, ["the boiler is heating", "a boiler and the pressure of a boiler", "soup"])
    found = await library.keyword_search("What is the pressure of boilers?", Level.MEDIUM, limit=5)
    chunks = await library.chunks_by_id([chunk for chunk, _ in found])
    assert [chunks[chunk].chunk.text[:8] for chunk, _ in found] == ["a boiler", "the boil"]
    assert found[0][1] > found[1][1] > 0
    assert len(await library.keyword_search("soup", Level.COARSE, limit=5)) == 1


@pytest.mark.parametrize(
    "text",
    ["", " ", '"', "NEAR(a b)", "*", "-boiler", "text:boiler", "🙂", "AND OR NOT", "\x00", "\ud800", "é", "_",
     "'; DROP", "boiler " * 10_000, " ".join(f"word{n}" for n in range(10_000)), "^boiler", "{a b}: c", "%", "\\"],
)  # fmt: skip
async def test_any_text_is_a_legal_query(library: SqlLibrary, text: str) -> None:
    """Operators of the query language are plain words or nothing."""
    await stored(library, ["boiler"])
    found = await library.keyword_search(text, Level.FINE, limit=5)
    assert len(found) == (1 if "boiler" in text else 0)


async def test_a_document_without_text_is_complete(library: SqlLibrary) -> None:
    """No chunks are no error here."""
    document, _ = await added(library, new_document())
    await completed(library, document.id, extracted(title=None), [])
    assert await library.live() == {document.id: 0}


async def test_documents_are_listed_by_name_and_state(library: SqlLibrary) -> None:
    """Pages and states."""
    for name in ("c", "a", "b"):
        await added(library, new_document(f"/docs/{name}", name))
    assert [each.name for each in await library.documents(limit=2, offset=1)] == ["b", "c"]
    assert await library.documents(state=DocumentState.FAILED) == []


async def test_two_documents_of_a_source_completed_at_once_leave_the_newer(library: SqlLibrary) -> None:
    """Whichever commits first."""
    for _ in range(5):
        source = str(uuid4())
        (first, _), (second, _) = [await added(library, new_document(source, content)) for content in "12"]
        await asyncio.gather(
            completed(library, first.id, extracted(), tree(first.id, ["first"])),
            completed(library, second.id, extracted(), tree(second.id, ["second"])),
            return_exceptions=True,
        )
        assert first.id not in await library.live()
        assert len(await library.chunks(second.id)) == 3


async def test_documents_of_a_source_added_at_once_are_numbered(library: SqlLibrary) -> None:
    """None is refused; the same content is one document."""
    contents = [str(number % 5) for number in range(20)]
    added = await asyncio.gather(*(library.add_many([new_document("/docs/a", content)]) for content in contents))
    assert all(len(each) == 1 for each in added)
    alike = await asyncio.gather(*(library.add_many([new_document("/docs/b", "same")]) for _ in range(10)))
    assert len({document.id for ((document, _),) in alike}) == 1


@pytest.mark.slow
async def test_fifty_thousand_chunks_are_stored_and_searched_in_bearable_time(library: SqlLibrary) -> None:
    """A sanity bound, far above what is expected."""
    started = time.monotonic()
    for number in range(25):
        document, _ = await added(library, new_document(f"/docs/{number}", str(number)))
        texts = [f"word{(number * 1000 + n) % 997} boiler number {n} pressure" for n in range(1000)]
        await completed(library, document.id, extracted(), tree(document.id, texts))
    stored_s, started = time.monotonic() - started, time.monotonic()
    for _ in range(10):
        assert len(await library.keyword_search("the pressure of word33 and word44", Level.FINE, limit=30)) == 30
    searched_s = (time.monotonic() - started) / 10
    assert (searched_s < 2.0, stored_s < 250.0) == (True, True), (searched_s, stored_s)


async def test_a_document_given_with_an_id_in_use_is_the_stored_one(library: SqlLibrary) -> None:
    """A retried add makes nothing twice."""
    document, _ = await added(library, new_document())
    assert await added(library, replace(document, name="other")) == (document, False)
