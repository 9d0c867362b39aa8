"""What a member keeps of the cluster's truth."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from morgand.cluster import keys
from morgand.cluster.copy import Copy, copy_file
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import Put
from tests.fakes.storage import HandClock


class Ended(Exception):
    """It has run for long enough."""


class FewTurns(HandClock):
    """Time passes for a number of turns; between them something may happen."""

    def __init__(self, *between: object) -> None:
        super().__init__()
        self.between = list(between)

    async def sleep(self, seconds: float) -> None:
        if not self.between:
            raise Ended
        happening = self.between.pop(0)
        if callable(happening):
            await happening()


async def kept(mirror: Mirror, folder: Path, *between: object) -> dict[str, bytes]:
    with contextlib.suppress(Ended):
        await asyncio.wait_for(Copy(mirror, folder, FewTurns(*between)).run(), 30)
    return {row[0]: row[1] for row in copy_file(folder).read().rows}


async def test_it_follows_what_changes_but_not_what_is_of_the_moment(tmp_path: Path) -> None:
    """The file is private, since it holds the authority's key."""
    store = await LocalStore.open(tmp_path)
    mirror = Mirror(store, HandClock())
    await store.txn([], [Put("/ca", b"secret"), Put(keys.status("a"), b"1"), Put(keys.lease("a"), b"1")])
    await mirror.load()

    async def change() -> None:
        await mirror.until(await store.txn([], [Put("/a", b"2")], ["/ca"]))

    assert await kept(mirror, tmp_path) == {"/ca": b"secret"}
    assert await kept(mirror, tmp_path, change) == {"/a": b"2"}
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


async def test_what_is_not_current_is_not_kept(tmp_path: Path) -> None:
    """Nor does an empty store, as one is before it is connected, replace what was known."""
    store = await LocalStore.open(tmp_path)
    mirror = Mirror(store, HandClock())
    await mirror.until(await store.txn([], [Put("/a", b"1")]))
    assert await kept(mirror, tmp_path) == {"/a": b"1"}
    await mirror.until(await store.txn([], [Put("/a", b"2")]))
    mirror.current = False
    assert await kept(mirror, tmp_path) == {"/a": b"1"}
    mirror.current = True
    await mirror.until(await store.txn([], [], ["/a"]))
    assert await kept(mirror, tmp_path) == {"/a": b"1"}


async def test_a_full_disk_costs_the_copy_and_nothing_else(tmp_path: Path) -> None:
    """It is written when there is room again and something changes."""
    store = await LocalStore.open(tmp_path)
    mirror = Mirror(store, HandClock())
    await mirror.until(await store.txn([], [Put("/a", b"1")]))
    full = tmp_path / "copy.new"
    full.mkdir()  # stands for a disk that takes nothing

    async def room() -> None:
        full.rmdir()
        await mirror.until(await store.txn([], [Put("/a", b"2")]))

    assert await kept(mirror, tmp_path, room) == {"/a": b"2"}
