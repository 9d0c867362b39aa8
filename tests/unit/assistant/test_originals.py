"""No original goes that a document needs: uploads on one host, removals on another, in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from morgand.assistant.rag.ingest import Ingestor
from morgand.base.errors import Unavailable
from morgand.config import DocumentsConfig
from morgand.state.assistant import Document
from morgand.state.ports import Library, Originals
from tests.fakes.assistant import accept
from tests.fakes.ingestion import Bench, running, until


@dataclass
class Gate:
    """Calls of one method of a port wait here; ``reached`` is set when the first one has come."""

    port: Any
    method: str
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.port, name)
        return self._held(call) if name == self.method else call

    def _held(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def held(*args: Any, **kwargs: Any) -> Any:
            self.reached.set()
            await self.opened.wait()
            return await call(*args, **kwargs)

        return held


async def original_of(bench: Bench, document: Document) -> str:
    return (await bench.objects.path(document.object_key)).read_text("utf-8")


async def test_a_sweep_on_another_host_spares_an_original_whose_row_waits_for_the_database(bench: Bench) -> None:
    """Core moved while the database did: what is acknowledged then is there."""
    waits = Gate(bench.library, "add_many")
    here = bench.ingestor(library=cast("Library", waits))
    accepting = asyncio.create_task(accept(here, bench.file("deed"), name="d", source="/d"))
    await waits.reached.wait()
    other = await bench.objects.put_file(bench.file("nobody's"))
    there = bench.ingestor()
    async with running(there):
        await until(lambda: not (bench.objects.folder / other).exists())
        waits.opened.set()
        document, new = await accepting
        assert new
        assert await original_of(bench, document) == "deed"
        await bench.settled(there)
    assert list(await bench.library.live()) == [document.id]


async def test_deleting_a_document_spares_the_same_content_that_comes_in_elsewhere(bench: Bench) -> None:
    there = bench.ingestor()
    old, _ = await accept(there, bench.file("deed"), name="old", source="/old")
    waits = Gate(bench.library, "add_many")
    here = bench.ingestor(library=cast("Library", waits))
    accepting = asyncio.create_task(accept(here, bench.file("deed"), name="new", source="/new"))
    await waits.reached.wait()
    await there.delete(old.id)
    waits.opened.set()
    document, _ = await accepting
    assert await original_of(bench, document) == "deed"


@pytest.mark.parametrize("late", ["delete", "object_used"])
async def test_a_removal_that_was_decided_before_an_upload_is_not_carried_out_after_it(bench: Bench, late: str) -> None:
    """Its last step may take as long as a network likes."""
    if late == "delete":
        gate = Gate(bench.objects, late)
        there = bench.ingestor(objects=cast("Originals", gate))
    else:
        gate = Gate(bench.library, late)
        there = bench.ingestor(library=cast("Library", gate))
    here = bench.ingestor()
    old, _ = await accept(here, bench.file("deed"), name="old", source="/old")
    deleting = asyncio.create_task(there.delete(old.id))
    await gate.reached.wait()
    document, _ = await accept(here, bench.file("deed"), name="new", source="/new")
    gate.opened.set()
    await deleting
    assert await original_of(bench, document) == "deed"


async def test_a_removal_that_failed_is_done_by_the_next_sweep(bench: Bench) -> None:
    """The objects' host was away for a moment: nobody has to start anything anew."""
    ingestor = bench.ingestor()
    async with running(ingestor):
        document, _ = await accept(ingestor, bench.file("private"), name="p", source="/p")
        await bench.settled(ingestor)
        bench.objects.away = True
        with pytest.raises(Unavailable):
            await ingestor.delete(document.id)
        bench.objects.away = False
        await until(lambda: not list(bench.objects.folder.iterdir()))


async def test_a_deletion_goes_on_when_whoever_asked_for_it_is_gone(bench: Bench) -> None:
    """Text and original are private: not only the row goes."""
    gate = Gate(bench.objects, "delete")
    ingestor = bench.ingestor(objects=cast("Originals", gate))
    document, _ = await accept(ingestor, bench.file("private"), name="p", source="/p")
    deleting = asyncio.create_task(ingestor.delete(document.id))
    await gate.reached.wait()
    deleting.cancel()
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await deleting
    assert not list(bench.objects.folder.iterdir())


@dataclass
class Lost:
    """A library that stores, and then does not get round to saying so."""

    library: Library
    error: Unavailable | None
    stored: asyncio.Event = field(default_factory=asyncio.Event)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.library, name)

    async def add_many(self, documents: Sequence[Document]) -> None:
        await self.library.add_many(documents)
        self.stored.set()
        if self.error is not None:
            raise self.error
        await asyncio.get_running_loop().create_future()  # for ever


@pytest.mark.parametrize("error", [None, Unavailable("It is not known whether the change is stored.")])
async def test_a_document_whose_upload_was_not_answered_is_processed_all_the_same(
    bench: Bench, error: Unavailable | None
) -> None:
    """The client is gone, or was told to send it again: the row is processed, and by this daemon."""
    library = Lost(bench.library, error)
    ingestor = bench.ingestor(library=cast("Library", library))
    async with running(ingestor):
        accepting = asyncio.create_task(accept(ingestor, bench.file("deed"), name="d", source="/d"))
        await library.stored.wait()
        accepting.cancel()
        with pytest.raises((asyncio.CancelledError, Unavailable)):
            await accepting
        await bench.settled(ingestor)
        assert len(await bench.library.live()) == 1


async def test_two_machines_have_the_same_path_and_each_keeps_its_own(bench: Bench) -> None:
    """The second one's file neither replaces the first one's nor takes its original away."""
    ingestor = bench.ingestor()
    async with running(ingestor):
        taken = [
            (await accept(ingestor, bench.file(f"of {one}"), name="n", source="/n", machine=one))[0] for one in "ab"
        ]
        await bench.settled(ingestor)
    assert set(await bench.library.live()) == {one.id for one in taken}
    assert {point.document for point in bench.vectors.points.values()} == {one.id for one in taken}
    assert [await original_of(bench, one) for one in taken] == ["of a", "of b"]


async def test_equal_content_of_two_machines_is_stored_once_and_belongs_to_both(bench: Bench) -> None:
    ingestor = bench.ingestor()
    first, second = [
        (await accept(ingestor, bench.file("deed"), name="d", source="/d", machine=one))[0] for one in "ab"
    ]
    assert first.id != second.id
    assert len(list(bench.objects.folder.iterdir())) == 1
    await ingestor.delete(first.id)
    assert await original_of(bench, second) == "deed"
    await ingestor.delete(second.id)
    assert not list(bench.objects.folder.iterdir())


async def versions(bench: Bench, ingestor: Ingestor, *contents: str) -> list[Document]:
    """Each replaces the one before."""
    found = []
    for content in contents:
        found.append((await accept(ingestor, bench.file(content), name="d", source="/d"))[0])
        await bench.settled(ingestor)
    return found


async def test_earlier_versions_keep_their_originals_until_the_document_is_deleted(bench: Bench) -> None:
    """A sweep spares them, and none of their text is in the index."""
    ingestor = bench.ingestor()
    async with running(ingestor):
        found = await versions(bench, ingestor, "first", "second", "third")
        await until(lambda: {point.document for point in bench.vectors.points.values()} == {found[2].id})
    other = await bench.objects.put_file(bench.file("nobody's"))
    async with running(bench.ingestor()):
        await until(lambda: not (bench.objects.folder / other).exists())
    assert [await original_of(bench, one) for one in found] == ["first", "second", "third"]
    await ingestor.delete(found[1].id)
    assert len(list(bench.objects.folder.iterdir())) == 2
    await ingestor.delete(found[2].id)
    assert not list(bench.objects.folder.iterdir())


async def test_a_sweep_removes_versions_that_are_not_kept_any_longer_with_their_originals(bench: Bench) -> None:
    ingestor = bench.ingestor()
    async with running(ingestor):
        found = await versions(bench, ingestor, *(f"version {number}" for number in range(5)))
    bench.settings = replace(bench.settings, documents=DocumentsConfig(keep_versions=2))
    async with running(bench.ingestor()):
        await until(lambda: len(list(bench.objects.folder.iterdir())) == 3)
    assert [one.id for one in await bench.library.versions(found[4].id)] == [one.id for one in found[:1:-1]]
    assert [await original_of(bench, one) for one in found[2:]] == ["version 2", "version 3", "version 4"]
