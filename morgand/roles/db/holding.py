"""Morgan's database while the server of this host is the primary: taken, admitted in an epoch, purged, lost again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from morgand.base.clock import Clock
from morgand.base.errors import MorganError
from morgand.roles.db.service import KEEP_DELETED_DAYS, PURGE_EVERY_S
from morgand.storage.database import Database
from morgand.storage.migrate import upgrade_aside
from morgand.storage.purge import purge

log = logging.getLogger("morgand.roles.db.holding")

CONTRACT_EVERY_S = 10.0


class Holding:
    """``epoch``: that of this host's assignment as the primary; None while it has none. ``agreed_post``: the last
    migration that every member knows, of those that take something away."""

    def __init__(
        self, database: Database, epoch: Callable[[], int | None], agreed_post: Callable[[], int], clock: Clock
    ) -> None:
        self._database, self._epoch, self._agreed_post, self._clock = database, epoch, agreed_post, clock
        self.taken = False
        self._term: int | None = None  # the epoch it is admitted in
        self._ended: int | None = None  # the last one it was admitted in
        database.expect(lambda: self.due and self._epoch() != self._ended)
        self._tending: list[asyncio.Task[None]] = []

    @property
    def due(self) -> bool:
        """Whether this host is to be the primary, and nobody is admitted yet."""
        return self._term is None and self._epoch() is not None

    async def take(self, url: str) -> None:
        """Go over to the server, held, with everything in its schema that this program needs.

        Raises Conflict when this program is too old for it, MorganError.
        """
        self.taken = True
        self._database.hold()
        await self._database.connect(url)
        await upgrade_aside(self._database, post=0)

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
        if self._term is not None and not self._tending:
            self._tending = [
                asyncio.create_task(self._purge(), name="purge"),
                asyncio.create_task(self._contract(), name="migrations"),
            ]

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
        self._ended, self._term = self._term or self._ended, None
        for task in self._tending:
            task.cancel()
        self._tending = []

    async def _purge(self) -> None:
        while True:
            try:
                await purge(self._database, self._clock, older_than_days=KEEP_DELETED_DAYS)
            except MorganError as err:
                log.warning("database not purged", extra={"reason": err.message})
            await self._clock.sleep(PURGE_EVERY_S)

    async def _contract(self) -> None:
        """Take away from the schema what no member uses any more; while the database serves."""
        done, said = 0, ""
        while True:
            agreed = self._agreed_post()
            try:
                if agreed > done:
                    if await upgrade_aside(self._database, post=agreed):
                        log.info("schema contracted", extra={"through": agreed})
                    done, said = agreed, ""
            except MorganError as err:
                if err.message != said:
                    log.warning("schema not contracted", extra={"reason": err.message})
                said = err.message
            await self._clock.sleep(CONTRACT_EVERY_S)
