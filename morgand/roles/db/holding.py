"""Morgan's database while the server of this host is the primary: taken, admitted in an epoch, purged, lost again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from morgand.clock import Clock
from morgand.errors import MorganError
from morgand.roles.db.service import KEEP_DELETED_DAYS, PURGE_EVERY_S
from morgand.storage.database import Database
from morgand.storage.migrate import upgrade_aside
from morgand.storage.purge import purge

log = logging.getLogger("morgand.roles.db.holding")


class Holding:
    """``epoch``: that of this host's assignment as the primary; None while it has none."""

    def __init__(self, database: Database, epoch: Callable[[], int | None], clock: Clock) -> None:
        self._database, self._epoch, self._clock = database, epoch, clock
        self.taken = False
        self._term: int | None = None  # the epoch it is admitted in
        self._purging: asyncio.Task[None] | None = None

    async def take(self, url: str) -> None:
        """Go over to the server, held, with its schema up to date. Raises MorganError."""
        self.taken = True
        self._database.hold()
        await self._database.connect(url)
        await upgrade_aside(self._database)

    async def renew(self) -> None:
        """Admit users in the epoch of now, or nobody while there is none. Raises MorganError."""
        epoch = self._epoch()
        if epoch is None:
            if self._term is not None:
                self._database.hold()
                self._end_term()
        elif epoch != self._term:
            await self._database.begin_term(epoch)
            self._database.admit()
            self._term = epoch
            log.info("database admitted", extra={"epoch": epoch})
        if self._term is not None and self._purging is None:
            self._purging = asyncio.create_task(self._purge(), name="purge")

    def lose(self) -> None:
        """At once: the primary is elsewhere, or nowhere."""
        if self.taken:
            self.taken = False
            self._database.hold()
            self._end_term()

    async def close(self) -> None:
        taken = self.taken
        self.lose()
        if taken:
            await self._database.close()

    def _end_term(self) -> None:
        self._term = None
        if self._purging is not None:
            self._purging.cancel()
            self._purging = None

    async def _purge(self) -> None:
        while True:
            try:
                await purge(self._database, self._clock, older_than_days=KEEP_DELETED_DAYS)
            except MorganError as err:
                log.warning("database not purged", extra={"reason": err.message})
            await self._clock.sleep(PURGE_EVERY_S)
