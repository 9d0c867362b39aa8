"""What a member last knew of the cluster's truth, kept on its disk: all there is if the voters are lost for good.

It is no store: nothing is ever decided from it but by hand (``morgand recover``).
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from morgand.base.clock import Clock
from morgand.base.errors import MorganError
from morgand.cluster import keys
from morgand.cluster.mirror import Mirror
from morgand.cluster.storefile import Row, StoreContent, StoreFile

log = logging.getLogger("morgand.copy")

FILE = "copy"
EVERY_S = 5.0  # what is younger than that may be missing
FLEETING = (keys.STATUS, keys.LEASES)  # written all the time, and of the moment only


def copy_file(folder: Path) -> StoreFile:
    """In DATA_DIR/cluster, readable by its owner alone: it holds the authority's key."""
    return StoreFile(folder, FILE)


class Copy:
    """``run`` until cancelled. What cannot be written is tried again with the next change."""

    def __init__(self, mirror: Mirror, folder: Path, clock: Clock) -> None:
        self._mirror, self._file, self._clock = mirror, copy_file(folder), clock
        self._written: list[Row] = []

    async def run(self) -> None:
        while True:
            changed = self._mirror.next()
            try:
                await self._write()
            except MorganError as err:
                log.warning("copy of the cluster's truth not written", extra={"reason": err.message})
            await self._clock.sleep(EVERY_S)
            await changed.wait()

    async def _write(self) -> None:
        rows = [
            (one.key, one.value, one.create_revision, one.mod_revision)
            for one in self._mirror.list("/")
            if not one.key.startswith(FLEETING)
        ]
        if self._mirror.current and rows and rows != self._written:
            await asyncio.to_thread(self._file.write, StoreContent(self._mirror.revision, rows))
            self._written = rows
