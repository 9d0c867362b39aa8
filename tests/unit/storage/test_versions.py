"""Documents of several machines, and what becomes of those that are replaced."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from morgand.base.errors import NotFound
from morgand.state.assistant import Document, DocumentState, Level
from morgand.storage.database import Database
from morgand.storage.library import SqlLibrary
from tests.fakes.storage import HandClock, added, completed, extracted, new_document, tree

NOTES = "/home/me/notes.txt"
DAY_S = 86_400.0


async def stored(library: SqlLibrary, content: str, machine: str = "", source: str = NOTES) -> Document:
    """A completed document whose text is its content."""
    document, _ = await added(library, new_document(source, content, machine))
    await completed(library, document.id, extracted(), tree(document.id, [content]))
    return await library.document(document.id)


async def listed(library: SqlLibrary) -> set[str]:
    return {one.id for one in await library.documents()}


async def history(library: SqlLibrary, document: Document) -> list[str]:
    return [one.sha256 for one in await library.versions(document.id)]


async def test_the_same_path_on_two_machines_is_two_documents(library: SqlLibrary) -> None:
    """Neither replaces the other, and each is updated for itself."""
    first, second = await stored(library, "laptop", "a"), await stored(library, "desktop", "b")
    assert await listed(library) == {first.id, second.id}
    assert set(await library.live()) == {first.id, second.id}
    newer = await stored(library, "newer", "a")
    assert await listed(library) == {newer.id, second.id}
    assert len(await library.keyword_search("desktop", Level.FINE, limit=5)) == 1
    assert await library.object_used(second.object_key)


async def test_machines_that_complete_one_path_at_once_keep_both(library: SqlLibrary) -> None:
    for number in range(5):
        source = f"/at-once/{number}"
        both = [(await added(library, new_document(source, machine, machine)))[0] for machine in "ab"]
        done = await asyncio.gather(
            *(completed(library, one.id, extracted(), tree(one.id, [one.machine])) for one in both)
        )
        assert done == [[], []]
        assert {one.id for one in both} <= set(await library.live())


async def test_a_document_of_no_machine_becomes_the_first_ones_that_sends_it_unchanged(library: SqlLibrary) -> None:
    """What was ingested before machines were told apart does not double; another machine has its own."""
    old = await stored(library, "1")
    assert await added(library, new_document(NOTES, "other", "b"))  # not the same: not its own
    again, new = await added(library, new_document(NOTES, "1", "a"))
    assert (again.id, new, again.machine) == (old.id, False, "a")
    assert (await library.document(old.id)).machine == "a"
    newer = await stored(library, "2", "a")
    assert await history(library, newer) == [newer.sha256, old.sha256]
    third, new = await added(library, new_document(NOTES, "1", "c"))
    assert (third.id != old.id, new) == (True, True)


async def test_a_document_of_no_machine_is_adopted_with_all_that_waits_of_it(library: SqlLibrary) -> None:
    """Its older content, still found while the newer is processed, is replaced by it then."""
    old = await stored(library, "1")
    newer, _ = await added(library, new_document(NOTES, "2"))
    assert await added(library, new_document(NOTES, "2", "a")) == (await library.document(newer.id), False)
    assert await completed(library, newer.id, extracted(), tree(newer.id, ["2"])) == [old.id]
    assert await listed(library) == {newer.id}


async def test_a_document_of_no_machine_is_adopted_once(library: SqlLibrary) -> None:
    """Two machines send it in one upload, or at once: one of them has it, the other one its own."""
    await stored(library, "1")
    done = await library.add_many([new_document(NOTES, "1", machine) for machine in "ab"])
    assert [(one.machine, new) for one, new in done] == [("a", False), ("b", True)]
    await stored(library, "1", source="/other")
    both = await asyncio.gather(*(added(library, new_document("/other", "1", machine)) for machine in "ab"))
    assert sorted(new for _, new in both) == [False, True]


async def test_a_document_that_is_replaced_is_kept_and_not_found(library: SqlLibrary) -> None:
    """Its original is needed, its row is there, its text is in no search."""
    first = await stored(library, "oldest")
    second = await stored(library, "newest")
    assert await listed(library) == {second.id}
    assert await history(library, second) == await history(library, first) == [second.sha256, first.sha256]
    earlier = await library.document(first.id)
    assert (earlier.replaced is not None, earlier.chunks, earlier.state) == (True, 0, DocumentState.COMPLETED)
    assert await library.object_used(first.object_key)
    assert await library.live() == {second.id: 3}
    assert (await library.states())["completed"] == 1
    for level in Level:
        assert await library.keyword_search("oldest", level, limit=5) == []


async def test_an_earlier_version_is_not_processed_again(library: SqlLibrary) -> None:
    """Whoever still had it in hand: it is neither started, nor failed, nor completed."""
    overtaken, _ = await added(library, new_document(NOTES, "1"))
    newer = await stored(library, "2")
    assert await library.start([overtaken.id]) == []
    with pytest.raises(NotFound):
        await library.set_state(overtaken.id, DocumentState.FAILED, "damaged")
    assert await completed(library, overtaken.id, extracted(), tree(overtaken.id, ["1"])) is None
    assert await library.documents(state=DocumentState.PENDING) == []
    assert await history(library, newer) == [newer.sha256, overtaken.sha256]


async def test_what_could_not_be_read_is_no_version(library: SqlLibrary) -> None:
    damaged, _ = await added(library, new_document(NOTES, "damaged"))
    await library.set_state(damaged.id, DocumentState.FAILED, "damaged")
    good = await stored(library, "good")
    assert await history(library, good) == [good.sha256]
    assert not await library.object_used(damaged.object_key)


async def test_deleting_a_document_deletes_its_versions(library: SqlLibrary) -> None:
    """And says which originals nobody needs by that; the same path of another machine stays whole."""
    others = [await stored(library, content, "b") for content in ("b1", "b2")]
    first, second, third = [await stored(library, content, "a") for content in ("a1", "a2", "a3")]
    assert await library.object_keys([third.id]) == {third.id: third.object_key}
    await library.delete(third.id)
    ours = {one.id: one.object_key for one in (first, second, third)}
    assert await library.object_keys([third.id], earlier=True) == ours
    for one in (first, second, third):
        assert not await library.object_used(one.object_key)
        with pytest.raises(NotFound):
            await library.versions(one.id)
    assert len(await history(library, others[1])) == 2


async def test_deleting_a_version_deletes_it_alone(library: SqlLibrary) -> None:
    first, second, third = [await stored(library, content) for content in "123"]
    await library.delete(second.id)
    assert await history(library, third) == [third.sha256, first.sha256]
    assert await listed(library) == {third.id}


async def test_deleting_what_waits_leaves_the_document_and_its_versions(library: SqlLibrary) -> None:
    """An upload that was a mistake is taken back before it is processed."""
    first, second = await stored(library, "1"), await stored(library, "2")
    waiting, _ = await added(library, new_document(NOTES, "3"))
    await library.delete(waiting.id)
    assert await history(library, second) == [second.sha256, first.sha256]
    assert await library.live() == {second.id: 3}


async def test_deleting_a_document_while_it_is_completed_leaves_no_version_of_it(library: SqlLibrary) -> None:
    """What it replaced is its version and goes with it, or was not replaced and stays: never kept for nobody."""
    for number in range(10):
        source = f"/race/{number}"
        old = await stored(library, f"old {number}", source=source)
        newer, _ = await added(library, new_document(source, f"new {number}"))
        done, _ = await asyncio.gather(
            completed(library, newer.id, extracted(), tree(newer.id, ["new"])), library.delete(newer.id)
        )
        assert (old.id in await listed(library)) == (done is None)
        assert await library.object_used(old.object_key) == (done is None)


async def test_versions_are_kept_for_a_number_and_a_time(library: SqlLibrary, clock: HandClock) -> None:
    """Of each document for itself; the newest is never among those that go."""
    mine = []
    for number in range(5):
        mine.append(await stored(library, f"a{number}", "a"))
        clock.turn(DAY_S)
    other = [await stored(library, f"b{number}", "b") for number in range(2)]
    assert await library.retire(keep=2, days=90, limit=1) == 1  # bounded
    assert await library.retire(keep=2, days=90, limit=10) == 1
    assert await history(library, mine[4]) == [mine[n].sha256 for n in (4, 3, 2)]
    assert not await library.object_used(mine[0].object_key)
    clock.turn(89.5 * DAY_S)
    assert await library.retire(keep=2, days=90, limit=10) == 2
    assert await library.retire(keep=2, days=90, limit=10) == 0
    assert await history(library, mine[4]) == [mine[4].sha256]
    assert await history(library, other[1]) == [other[1].sha256, other[0].sha256]
    assert await library.retire(keep=0, days=90, limit=10) == 1
    assert await listed(library) == {mine[4].id, other[1].id}


async def test_until_every_host_knows_of_machines_all_is_as_before(library: SqlLibrary, database: Database) -> None:
    """A program of the version before may serve this database next: it would confuse machines and drop versions."""
    async with database.write() as session:
        await session.execute(text("DELETE FROM alembic_version WHERE version_num LIKE 'post_%'"))
    old = await stored(library, "1", "a")
    assert old.machine == ""
    newer = await stored(library, "2", "b")
    assert await history(library, newer) == [newer.sha256]
    assert not await library.object_used(old.object_key)
