"""The one-time move of the assistant's data from this host's file to the cluster's PostgreSQL, as the host sees it.

The file serves until the leader has passed the primary on, in one transaction, at this host's request. A request that
was made counts until it is taken back: no file is served as long as one stands. Where there is a third host it is not
made before a synchronous standby has everything, too: until then the file is as good as PostgreSQL, and after the move
the loss of the new primary would cost what the loss of nobody costs before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import date
from pathlib import Path

from morgand.base.aio import wait_within
from morgand.base.clock import Clock
from morgand.base.errors import EngineError, MorganError, StorageFull, StoreConflict, Unavailable
from morgand.cluster import codec, keys
from morgand.cluster.mirror import Mirror
from morgand.cluster.snapshot import read_hosts
from morgand.cluster.store import ClusterStore, Put, Unchanged
from morgand.roles.db import patroni_keys, succession
from morgand.roles.db.patroni_keys import holders_in, patroni_in
from morgand.scheduler.growth import able
from morgand.storage.database import Database
from morgand.storage.move.mover import DatabaseMove, Progress
from morgand.storage.move.old_file import already_moved, note_of, set_aside

log = logging.getLogger("morgand.moving")

LOOK_EVERY_S = 2.0
RETRY_S = 10.0
ASKED_S = 5.0  # for a leader to pass the primary on; then the request is taken back
PAUSE_S = 0.3
STANDBY_S = 180.0  # for a standby: where none can be made for so long the data move without


class Relocation:
    """``settle`` before the file is served, ``run`` as long as the daemon lives."""

    def __init__(
        self, me: str, database: Database, file: Path, *, cluster: Callable[[], str], url: Callable[[str], str | None],
        store: ClusterStore, mirror: Mirror, clock: Clock,
    ) -> None:  # fmt: skip
        """``url``: that of PostgreSQL on another host, with its password; None while it is not known."""
        self._me, self._database, self._file, self._cluster, self._url = me, database, file, cluster, url
        self._store, self._mirror, self._clock = store, mirror, clock
        self._waiting_since: float | None = None  # for a standby

    async def settle(self) -> None:
        """Make sure that this file is in charge. Raises EngineError if it was moved, MorganError while nobody knows."""
        if not await asyncio.to_thread(note_of(self._file).exists):
            return
        await self._take_back()
        if await self._is_moved():
            await asyncio.to_thread(set_aside, self._file, self._today())
            raise EngineError("What this file held is in PostgreSQL now.", remedy="Nothing: the old file is kept.")

    async def run(self) -> None:
        """Wait for PostgreSQL, move, and put the file away."""
        with contextlib.suppress(MorganError):
            if await self._is_moved():  # the last time it came no further than this
                await asyncio.to_thread(set_aside, self._file, self._today())
        while True:
            changed = self._mirror.next()
            target = self._target()
            if target is not None:
                await self._move(*target)
            await wait_within(changed, LOOK_EVERY_S)

    async def _move(self, host: str, url: str) -> None:
        log.info("database moves", extra={"to": host})
        move = DatabaseMove(self._database, url, self._marker, self._clock, self._notify)
        try:
            moved = await move.run(lambda: self._commit(host))
        except MorganError as err:
            log.warning("database not moved", extra={"to": host, "reason": str(err)})
            await self._clock.sleep(RETRY_S)
        else:
            rows = sum(moved.rows.values())
            log.info("database has moved", extra={"to": host, "held_s": round(moved.held_s, 2), "rows": rows})

    def _target(self) -> tuple[str, str] | None:
        """Where to: the host that Patroni has made the primary, while the file here is still in charge; None as well
        while a standby is waited for."""
        db = holders_in(self._mirror.view)
        mine = any(one.host == self._me and one.part == patroni_keys.PRIMARY and one.engine == "sqlite" for one in db)
        if not mine or not self._database.is_sqlite:
            return None
        for host in succession.successors(patroni_in(self._mirror), db):
            url = self._url(host)
            if url is not None:
                return (host, url) if self._is_safe(host) else None
        return None

    def _is_safe(self, target: str) -> bool:
        """Whether a third host has everything that the target has, or none will."""
        there = self._able()
        others = there - {self._me, target}
        if not others or self._has_standby(there):
            return True
        now = self._clock.monotonic()
        if self._waiting_since is None:
            self._waiting_since = now
            log.info("database waits for a standby", extra={"to": target, "others": sorted(others)})
        return now - self._waiting_since >= STANDBY_S

    def _able(self) -> set[str]:
        """Hosts that are there and can have a copy."""
        return {one.id for one in able(read_hosts(self._mirror.view, None), patroni_keys.ENGINE)}

    def _has_standby(self, there: set[str]) -> bool:
        return bool(there.intersection(patroni_in(self._mirror).synchronous))

    async def _commit(self, host: str) -> None:
        """Ask the leader to pass the primary on. Raises Unavailable if it surely was not."""
        if not self._is_safe(host):  # hosts came or went while it was copied
            raise Unavailable("Another host is to have a copy first.")
        alone = not self._has_standby(self._able())
        item = await self._store.get(keys.MOVE)
        request = Put(keys.MOVE, codec.encode(succession.MoveRequest(host, self._marker, alone)))
        with contextlib.suppress(Unavailable, StoreConflict, StorageFull):  # perhaps it was written all the same
            await self._store.txn([Unchanged(keys.MOVE, item.mod_revision if item else 0)], [request])
        deadline = self._clock.monotonic() + ASKED_S
        while (moved := await self._outcome(deadline)) is None:
            await self._clock.sleep(PAUSE_S)
        if not moved:
            raise Unavailable("No leader has passed the database on.")

    async def _outcome(self, deadline: float) -> bool | None:
        """Whether the primary was passed on; None while that is open."""
        try:
            if await self._is_moved():
                return True
            if self._clock.monotonic() < deadline:
                return None
            await self._take_back()
            return await self._is_moved()
        except (Unavailable, StoreConflict, StorageFull):
            return None

    async def _take_back(self) -> None:
        """Let no request stand, nor one that is still on its way. Raises Unavailable, StorageFull, StoreConflict."""
        item = await self._store.get(keys.MOVE)
        unchanged = Unchanged(keys.MOVE, item.mod_revision if item else 0)
        await self._store.txn([unchanged], [Put(keys.MOVE, codec.encode(None))])

    async def _is_moved(self) -> bool:
        """As the store says. Raises Unavailable."""
        item = await self._store.get(keys.MOVED)
        marker = codec.decode(str, item.value, key=item.key) if item else None
        return await asyncio.to_thread(already_moved, self._file, marker)

    @property
    def _marker(self) -> str:
        return f"{self._cluster()}/{self._me}"

    def _notify(self, progress: Progress) -> None:
        log.debug("moving", extra={"stage": progress.stage, "table": progress.table, "rows": progress.rows})

    def _today(self) -> date:
        return self._clock.now().date()
