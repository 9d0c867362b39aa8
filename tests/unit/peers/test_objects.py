"""Originals that are stored on another host: what is fetched, kept, removed, and what its full disk says."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from morgand.base.clock import SystemClock
from morgand.base.errors import StorageFull, Unavailable
from morgand.peers.objects import RoutedObjects
from morgand.peers.route import Holder, PortRoute
from morgand.roles.objects.store import FolderObjects
from tests.fakes.peers import credentials, served
from tests.unit.peers.test_route import Hosts

SIZE = 3_000_000


@dataclass
class Apart:
    """``objects`` as the host "a" has them; "b" stores them."""

    objects: RoutedObjects
    stored: FolderObjects
    spool: Path
    source: Path
    host: Any

    def fetched(self) -> list[Path]:
        return list(self.spool.iterdir())


@asynccontextmanager
async def apart(tmp_path: Path, **host: Any) -> AsyncIterator[Apart]:
    source, here = tmp_path / "in", tmp_path / "here"
    source.write_bytes(b"x" * SIZE)
    here.mkdir()
    async with served(tmp_path, **host) as there:
        client = there.client(credentials(tmp_path, "a"))
        hosts = Hosts([Holder("b", "main", 5, ready=True)], me="a")
        route = PortRoute("objects", "objects", hosts, lambda: client, SystemClock(), 25.0, single_writer=True)
        local = FolderObjects(tmp_path / "none")
        yield Apart(
            RoutedObjects(route, local, here), FolderObjects(tmp_path / "objects"), here, source, there
        )  # fmt: skip
        await client.close()


async def test_what_is_fetched_lies_here_for_as_long_as_it_is_read(tmp_path: Path) -> None:
    """However many documents there are, and however the reading ends."""
    async with apart(tmp_path) as two:
        key = await two.objects.put_file(two.source)
        for _ in range(3):
            async with two.objects.reading(key) as path:
                assert path.stat().st_size == SIZE
                assert two.fetched() == [path]
            assert two.fetched() == []
        with pytest.raises(ValueError, match="unreadable"):
            async with two.objects.reading(key):
                raise ValueError("unreadable")
        assert two.fetched() == []


# aiohttp leaves a file that it was about to send to the collector when the client goes
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_fetch_that_is_cut_off_leaves_nothing(tmp_path: Path) -> None:
    async with apart(tmp_path) as two:
        key = await two.objects.put_file(two.source)
        for pause_s in (0.0, 0.002, 0.005, 0.01, 0.02, 0.04):
            fetching = asyncio.create_task(_read(two.objects, key))
            await asyncio.sleep(pause_s)
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)
            assert two.fetched() == []


async def _read(objects: RoutedObjects, key: str) -> None:
    async with objects.reading(key):
        await asyncio.Event().wait()


async def test_marks_are_the_storing_hosts(tmp_path: Path) -> None:
    async with apart(tmp_path) as two:
        key = await two.objects.put_file(two.source)
        mark = await two.objects.mark([key])
        assert await two.objects.keep([key]) == []
        await two.objects.delete(key, mark)
        assert await two.objects.keys() == [key]
        await two.objects.delete(key, await two.objects.mark([key]))
        assert await two.objects.keep([key]) == [key]


class ObjectsBefore(Protocol):
    """As version 0.1 knew them."""

    async def put_file(self, path: Path) -> str: ...
    async def path(self, key: str) -> Path: ...
    async def delete(self, key: str) -> None: ...
    async def keys(self) -> list[str]: ...


class UnmarkedObjects(FolderObjects):
    """Removes what it is told to."""

    async def delete(self, key: str, mark: str = "") -> None:
        assert mark == ""
        await super().delete(key, await self.mark([key]))


async def test_an_older_host_stores_and_removes_as_it_did(tmp_path: Path) -> None:
    """It has no marks: nobody waits for it to have some."""
    async with apart(tmp_path, objects=ObjectsBefore, store=UnmarkedObjects) as two:
        key = await two.objects.put_file(two.source)
        assert await two.objects.keep([key]) == []
        await two.objects.delete(key, await two.objects.mark([key]))
        assert await two.objects.keys() == []


@contextmanager
def no_file_over(size_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_there_is_told_as_one_at_once_with_the_hosts_name(tmp_path: Path) -> None:
    """It is not emptied while a person waits, and no other host stores originals."""
    async with apart(tmp_path) as two:
        async with asyncio.timeout(15):
            with no_file_over(SIZE // 2), pytest.raises(StorageFull, match=r"On boreas: .*Free some space"):
                await two.objects.put_file(two.source)
        assert list((tmp_path / "spool").iterdir()) == []
        key = await two.objects.put_file(two.source)
        assert (await two.stored.path(key)).stat().st_size == SIZE


async def test_a_full_disk_here_is_told_as_one(tmp_path: Path) -> None:
    async with apart(tmp_path) as two:
        key = await two.objects.put_file(two.source)
        async with asyncio.timeout(15):
            with no_file_over(SIZE // 2), pytest.raises(StorageFull, match="cannot be stored here"):
                await _read(two.objects, key)
        assert two.fetched() == []


async def test_a_host_that_holds_nothing_is_waited_for(tmp_path: Path) -> None:
    """Only a full disk is final."""
    async with apart(tmp_path) as two:
        del two.host.held["objects"]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await two.objects.put_file(two.source)
        assert issubclass(StorageFull, Unavailable)
