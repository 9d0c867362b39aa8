"""Objects wherever they are: files travel between hosts; what was fetched lies here for as long as it is read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from morgand.base.aio import to_its_end
from morgand.base.errors import InvalidInput, NotHereNow, StorageFull
from morgand.peers.route import Holder, PortRoute, Rounds, acting, client_of, routed
from morgand.state.ports import ObjectFiles, Objects

T = TypeVar("T")


class RoutedObjects:
    """Implements ``ports.Originals``. ``folder`` holds what was fetched, for as long as it is read."""

    def __init__(self, route: PortRoute, local: ObjectFiles, folder: Path) -> None:
        self._route = route
        self._local = local
        self._folder = folder
        self._plain = routed(Objects, route, local)  # type: ignore[type-abstract]  # a Protocol is what is meant

    async def put_file(self, path: Path) -> str:
        async def remote(holder: Holder) -> str:
            return await client_of(self._route).send_file(holder.host, self._route.port, path, epoch=holder.epoch)

        return await self._at_holder(remote, lambda: self._local.put_file(path))

    @asynccontextmanager
    async def reading(self, key: str) -> AsyncIterator[Path]:
        path = await self._at_holder(lambda holder: self._fetch(holder, key), lambda: self._local.path(key))
        try:
            yield path
        finally:
            if path.parent == self._folder:
                await _remove(path)

    async def _fetch(self, holder: Holder, key: str) -> Path:
        target = self._folder / f"{key.rpartition('/')[2]}-{uuid4().hex}"
        try:
            await client_of(self._route).fetch_file(holder.host, self._route.port, key, target, epoch=holder.epoch)
        except BaseException:  # whoever is not told of the file cannot remove it
            await _remove(target)
            raise
        return target

    async def keep(self, keys: Sequence[str]) -> list[str]:
        try:
            return await self._plain.keep(keys)
        except InvalidInput:  # of an older host: it has no marks, and removes without
            return []

    async def mark(self, keys: Sequence[str]) -> str:
        try:
            return await self._plain.mark(keys)
        except InvalidInput:  # as above
            return ""

    async def delete(self, key: str, mark: str = "") -> None:
        await self._plain.delete(key, mark)

    async def keys(self) -> list[str]:
        return await self._plain.keys()

    async def _at_holder(self, remote: Callable[[Holder], Awaitable[T]], local: Callable[[], Awaitable[T]]) -> T:
        rounds = Rounds(self._route, {})
        while True:
            holder = await rounds.next()
            try:
                if holder.host == self._route.directory.me:
                    return await acting(self._route.role, self._route.directory, local)
                return await remote(holder)
            except StorageFull:
                raise  # a disk is not emptied while somebody waits, and what is stored here moves to no other
            except NotHereNow as err:
                rounds.failed(err)


async def _remove(fetched: Path) -> None:
    with contextlib.suppress(OSError):  # on a disk that can only be read: the next start clears the spool
        await to_its_end(asyncio.to_thread(fetched.unlink, missing_ok=True))
