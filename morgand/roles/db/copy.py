"""What the server of this host has of the database, for reading: also while it follows nobody, or may not write."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from morgand.base.clock import Clock
from morgand.base.errors import MorganError
from morgand.storage.database import Database

log = logging.getLogger("morgand.roles.db.copy")

RETRY_S = 2.0


class LocalCopy:
    """``whole``: whether the database is in PostgreSQL; while it moves there only a part of it is."""

    def __init__(self, database: Database, whole: Callable[[], bool], clock: Clock) -> None:
        self._database, self._whole, self._clock = database, whole, clock
        self._connecting: asyncio.Task[None] | None = None
        self._next_try_s = 0.0
        self._url: str | None = None  # that it is connected to

    @property
    def whole(self) -> bool:
        return self._whole()

    def offer(self, url: str) -> None:
        """The server answers; returns at once."""
        if not self._whole():
            self.withdraw()
        elif self._url == url:
            self._database.admit()
        elif self._connecting is None and self._clock.monotonic() >= self._next_try_s:
            self._connecting = asyncio.create_task(self._connect(url), name="copy")

    def withdraw(self) -> None:
        """The server is gone."""
        if self._database.admits:
            self._database.hold()

    async def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        self.withdraw()
        if self._url is not None:
            self._url = None
            await self._database.close()

    async def _connect(self, url: str) -> None:
        try:
            await self._database.connect(url)
            self._url = url
        except MorganError as err:
            log.debug("copy not readable yet", extra={"reason": err.message})
            self._next_try_s = self._clock.monotonic() + RETRY_S
        finally:
            self._connecting = None
