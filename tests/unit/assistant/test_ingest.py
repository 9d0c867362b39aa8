"""Documents: durable when accepted, processed in order, resumed after a crash, deleted everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from morgand.assistant.rag.reconcile import IndexDifference, Reconciler, difference
from morgand.assistant.rag.removal import SEARCHES
from morgand.assistant.rag.way import READ_BYTES, together
from morgand.base.errors import MorganError, NotFound, Overloaded, TooLarge, Unreadable
from morgand.state.assistant import Document, DocumentState, Extracted, Level
from morgand.state.ports import VectorPoint
from tests.fakes.assistant import FolderObjects, LineExtractor, MemoryVectors, accept
from tests.fakes.ingestion import Bench, running, until


@pytest.mark.parametrize(
    ("sizes", "calls"),
    [
        ([], []),
        ([100] * 10, [8, 2]),
        ([READ_BYTES, 1, 1], [1, 2]),
        ([1, READ_BYTES, READ_BYTES + 1, 1], [1, 1, 1, 1]),
        ([READ_BYTES // 2] * 3, [2, 1]),
    ],
)
def test_small_documents_are_read_together(sizes: list[int], calls: list[int]) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    documents = [
        Document(str(number), "n", "s", "text/plain", size, "", "", DocumentState.PENDING, created=now, updated=now)
        for number, size in enumerate(sizes)
    ]
    found = together(documents)
    assert [len(one) for one in found] == calls
    assert [one for call in found for one in call] == documents


async def test_documents_are_extracted_embedded_stored_and_indexed(bench: Bench) -> None:
    ingestor = bench.ingestor()
    documents = []
    for number in range(20):
        path = bench.file(f"line a of {number}\nline b of {number}")
        document, new = await accept(ingestor, path, name=f"{number}.txt", source=f"/docs/{number}.txt")
        assert new
        assert not path.exists()
        documents.append(document)
    await bench.cache.set(f"{SEARCHES}x", b"1", ttl_s=60)
    async with running(ingestor):
        await bench.settled(ingestor)
    assert not bench.cache.values
    assert {await bench.state(document) for document in documents} == {DocumentState.COMPLETED}
    assert await bench.vectors.counts() == await bench.library.live()
    assert all(point.embedding for point in bench.vectors.points.values())
    fine = [point for point in bench.vectors.points.values() if point.level is Level.FINE]
    assert all(bench.vectors.points[point.coarse].level is Level.COARSE for point in fine)
    texts = [text for batch in bench.embedder.batches for text in batch]
    assert len(texts) == len(set(texts)) == 60  # a medium chunk and its only fine one are embedded once
    assert max(len(batch) for batch in bench.embedder.batches) > 3  # small documents share batches


async def test_unchanged_content_is_not_taken_twice_and_changed_content_replaces(bench: Bench) -> None:
    ingestor = bench.ingestor()
    async with running(ingestor):
        first, _ = await accept(ingestor, bench.file("old"), name="a.txt", source="/a")
        await bench.settled(ingestor)
        again, new = await accept(ingestor, bench.file("old"), name="a.txt", source="/a")
        assert (again.id, new) == (first.id, False)
        await bench.cache.set(f"{SEARCHES}x", b"1", ttl_s=60)
        second, new = await accept(ingestor, bench.file("new"), name="a.txt", source="/a")
        assert new
        await bench.settled(ingestor)
        await until(lambda: {point.document for point in bench.vectors.points.values()} == {second.id})
    assert list(await bench.library.live()) == [second.id]
    assert {path.name for path in bench.objects.folder.iterdir()} == {first.object_key, second.object_key}
    assert not bench.cache.values
    assert not list(bench.spool.iterdir())


async def test_unfinished_documents_are_processed_after_a_restart(bench: Bench) -> None:
    """What was accepted before a kill, in whatever state, is completed once by the next daemon."""
    before = bench.ingestor()
    documents = [
        (await accept(before, bench.file(f"text {number}"), name="t", source=f"/{number}"))[0] for number in range(5)
    ]
    await bench.library.set_state(documents[2].id, DocumentState.PROCESSING)
    after = bench.ingestor()
    async with running(after):
        await bench.settled(after)
    assert set(await bench.library.live()) == {document.id for document in documents}


async def test_originals_nobody_has_are_swept_at_start(bench: Bench) -> None:
    """A daemon that died between storing an original and its row, or in a removal, leaves no private text behind."""
    before = bench.ingestor()
    kept, _ = await accept(before, bench.file("kept"), name="k", source="/k")
    orphan = await bench.objects.put_file(bench.file("orphan"))
    async with running(bench.ingestor()):
        await until(lambda: [path.name for path in bench.objects.folder.iterdir()] == [kept.object_key])
    assert orphan != kept.object_key


async def test_original_that_two_documents_share_is_kept_until_both_are_gone(bench: Bench) -> None:
    ingestor = bench.ingestor()
    async with running(ingestor):
        one, _ = await accept(ingestor, bench.file("same"), name="1", source="/1")
        two, _ = await accept(ingestor, bench.file("same"), name="2", source="/2")
        await bench.settled(ingestor)
        await ingestor.delete(one.id)
        assert (await bench.objects.path(two.object_key)).exists()
        await ingestor.delete(two.id)
    assert not list(bench.objects.folder.iterdir())
    assert not bench.vectors.points
    with pytest.raises(NotFound):
        await ingestor.delete(two.id)


async def test_unreadable_document_is_failed_with_its_reason_and_the_others_go_on(bench: Bench) -> None:
    ingestor = bench.ingestor()
    async with running(ingestor):
        bad, _ = await accept(ingestor, bench.file("damaged"), name="bad.txt", source="/bad")
        good, _ = await accept(ingestor, bench.file("fine"), name="good.txt", source="/good")
        await bench.settled(ingestor)
        stored = await bench.library.document(bad.id)
    assert (stored.state, stored.error) == (DocumentState.FAILED, "bad.txt is damaged.")
    assert await bench.state(good) is DocumentState.COMPLETED


class SickDisk(FolderObjects):
    """Some of its originals cannot be read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.sick: set[str] = set()

    async def path(self, key: str) -> Path:
        if key in self.sick:
            raise OSError(5, "Input/output error")
        return await super().path(key)


async def test_an_original_that_the_disk_does_not_give_is_failed_and_the_others_go_on(bench: Bench) -> None:
    """Nor does a defect in a reader, whatever it raises, cost more than the document it was met at."""
    bench.objects = disk = SickDisk(bench.objects.folder)
    bench.extractor = Clumsy()
    ingestor = bench.ingestor()
    documents = {}
    for name in ("lost", "good one", "clumsy", "good two"):
        documents[name], _ = await accept(ingestor, bench.file(name), name=f"{name}.txt", source=f"/{name}")
    disk.sick = {documents["lost"].object_key}
    async with running(ingestor):
        await bench.settled(ingestor)
        stored = {name: await bench.library.document(one.id) for name, one in documents.items()}
    assert [name for name, one in stored.items() if one.state is DocumentState.FAILED] == ["lost", "clumsy"]
    assert "Input/output error" in (stored["lost"].error or "")
    assert "ZeroDivisionError" in (stored["clumsy"].error or "")
    assert set(await bench.vectors.counts()) == {documents["good one"].id, documents["good two"].id}


class Clumsy(LineExtractor):
    """Has a defect that shows with some documents."""

    def _read(self, path: Path, name: str) -> Extracted | MorganError:
        if name.startswith("clumsy"):
            raise ZeroDivisionError
        return super()._read(path, name)


async def test_a_document_that_is_completed_is_found(bench: Bench) -> None:
    """Whoever was told 'completed' and asks at once has it among the passages."""
    bench.vectors = SlowIndex()
    ingestor = bench.ingestor()
    async with running(ingestor):
        for number in range(5):
            document, _ = await accept(ingestor, bench.file(f"text {number}"), name="t", source=f"/{number}")
            await until_completed(bench, document)
            assert document.id in await bench.vectors.counts()


class SlowIndex(MemoryVectors):
    """Takes its time to write, as one does that is on disk when it returns."""

    async def upsert(self, points: Sequence[VectorPoint]) -> None:
        await asyncio.sleep(0.05)
        await super().upsert(points)


async def until_completed(bench: Bench, document: Document) -> None:
    async with asyncio.timeout(20):
        while await bench.state(document) is not DocumentState.COMPLETED:
            await asyncio.sleep(0)


async def test_an_index_that_has_moved_is_compared_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its new host was a standby, which lacked what had been completed a moment before."""
    monkeypatch.setattr("morgand.assistant.rag.ingest.LOOK_EVERY_S", 0.01)
    ingestor = bench.ingestor()
    async with running(ingestor):
        document, _ = await accept(ingestor, bench.file("one"), name="a", source="/a")
        await bench.settled(ingestor)
        await until(lambda: bool(bench.vectors.points))
        bench.vectors.points.clear()
        await asyncio.sleep(0.1)
        assert not bench.vectors.points
        bench.engines = "there"
        await until(lambda: {point.document for point in bench.vectors.points.values()} == {document.id})


async def test_what_is_in_the_index_and_not_completed_yet_is_left_there(bench: Bench) -> None:
    """A comparison in the middle of ingestion does not take out what is about to be completed."""
    coming: set[str] = set()
    reconciler = Reconciler(bench.library, bench.vectors, lambda: frozenset(coming))
    point = VectorPoint("c", "d", Level.COARSE, "c", None, "text", None)
    await bench.vectors.upsert([point])
    coming.add("d")
    assert await reconciler.reconcile() == IndexDifference()
    coming.clear()
    assert await reconciler.reconcile() == IndexDifference(stale=("d",))
    assert not bench.vectors.points


async def test_without_embedder_documents_are_stored_and_filled_in_later(bench: Bench) -> None:
    bench.embedder.away = True
    ingestor = bench.ingestor()
    async with running(ingestor):
        document, _ = await accept(ingestor, bench.file("one\ntwo"), name="a", source="/a")
        await bench.settled(ingestor)
        assert (await bench.library.document(document.id)).embeddings == 0
        bench.embedder.away = False
        ingestor.wake()
        await until(lambda: bool(bench.vectors.points) and all(p.embedding for p in bench.vectors.points.values()))
    assert (await bench.library.document(document.id)).embeddings == 5


async def test_index_that_was_away_is_made_equal_to_the_library(bench: Bench) -> None:
    bench.vectors.away = True
    ingestor = bench.ingestor()
    async with running(ingestor):
        document, _ = await accept(ingestor, bench.file("one"), name="a", source="/a")
        gone, _ = await accept(ingestor, bench.file("two"), name="b", source="/b")
        await bench.settled(ingestor)
        await ingestor.delete(gone.id)
        bench.vectors.away = False
        ingestor.wake()
        await until(lambda: bool(bench.vectors.points))
    assert await bench.vectors.counts() == {document.id: 3}


async def test_empty_large_and_too_many_are_refused_and_leave_nothing(bench: Bench) -> None:
    ingestor = bench.ingestor()
    with pytest.raises(Unreadable, match="empty"):
        await accept(ingestor, bench.file(""), name="a\nb", source="/a")
    with pytest.raises(TooLarge):
        await accept(ingestor, bench.file("x" * 1_100_000), name="a", source="/a")
    for number in range(50):
        await accept(ingestor, bench.file(f"text {number}"), name="a", source=f"/{number}")
    with pytest.raises(Overloaded):
        await accept(ingestor, bench.file("one more"), name="a", source="/more")
    assert not list(bench.spool.iterdir())
    assert len(list(bench.objects.folder.iterdir())) == 50


async def test_what_waits_is_counted_wherever_it_came_in(bench: Bench) -> None:
    """A host that processes nothing refuses what is too much for the one that does."""
    elsewhere, here = bench.ingestor(), bench.ingestor()
    for number in range(50):
        await accept(elsewhere, bench.file(f"text {number}"), name="a", source=f"/{number}")
    with pytest.raises(Overloaded, match="50 documents wait"):
        await accept(here, bench.file("one more"), name="a", source="/more")
    async with running(elsewhere):
        await bench.settled(elsewhere)
    await accept(here, bench.file("one more"), name="a", source="/more")


def test_difference_writes_what_lacks_and_removes_what_is_too_much() -> None:
    found = difference({"a": 3, "b": 3, "c": 3, "e": 1}, {"a": 3, "b": 2, "c": 4, "d": 1, "e": 1}, frozenset("e"))
    assert found.missing == ("b", "c", "e")
    assert found.stale == ("c", "d")
