"""Objects wherever they are: files travel between hosts; what was fetched lies here for as long as it is read."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from morgand.base.errors import Fenced, InvalidInput, Unavailable
from morgand.peers.route import Holder, PortRoute, Rounds, acting, client_of, routed
from morgand.state.ports import Objects

T = TypeVar("T")

KEPT = 32  # fetched copies that are still there: more than are read at the same time


class RoutedObjects:
    """Implements ``ports.Objects``. ``folder`` holds the last ``KEPT`` fetched copies."""

    def __init__(self, route: PortRoute, local: Objects, folder: Path) -> None:
        self._route = route
        self._local = local
        self._folder = folder
        self._fetched: deque[Path] = deque()
        self._plain = routed(Objects, route, local)  # type: ignore[type-abstract]  # a Protocol is what is meant

    async def put_file(self, path: Path) -> str:
        async def remote(holder: Holder) -> str:
            return await client_of(self._route).send_file(holder.host, self._route.port, path, epoch=holder.epoch)

        return await self._at_holder(remote, lambda: self._local.put_file(path))

    async def path(self, key: str) -> Path:
        """A local file: the object itself, or a copy that was fetched for this reading."""

        async def remote(holder: Holder) -> Path:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            target = self._folder / f"{os.path.basename(key)}-{uuid4().hex}"  # noqa: PTH119 - a key, not a path
            await client_of(self._route).fetch_file(holder.host, self._route.port, key, target, epoch=holder.epoch)
            self._fetched.append(target)
            if len(self._fetched) > KEPT:
                await asyncio.to_thread(self._fetched.popleft().unlink, missing_ok=True)
            return target

        return await self._at_holder(remote, lambda: self._local.path(key))

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
            except (Unavailable, Fenced) as err:
                rounds.failed(err)
