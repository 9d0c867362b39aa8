"""Perform the database role here: on the embedded default, a SQLite file in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from morgand.base.clock import Clock
from morgand.roles.base import EmbeddedService, RoleService
from morgand.storage.database import Database
from morgand.storage.migrate import upgrade_aside
from morgand.storage.purge import purge

PURGE_EVERY_S = 86_400.0
KEEP_DELETED_DAYS = 30  # tombstones, without text: other hosts must learn of a deletion before it is forgotten


def service(database: Database, clock: Clock, settle: Callable[[], Awaitable[None]]) -> RoleService:
    """Open the file, bring its schema up to date, admit its users, then check that it answers.

    ``settle`` makes sure that the file is still what counts, and raises MorganError if it is not. Once a day what was
    deleted long ago is removed for good.
    """
    database.hold()

    async def opened() -> None:
        await settle()
        await database.open()
        await upgrade_aside(database)
        database.admit()

    next_purge = clock.monotonic()

    async def check() -> None:
        nonlocal next_purge
        await database.health()
        if clock.monotonic() >= next_purge:
            next_purge = clock.monotonic() + PURGE_EVERY_S
            await purge(database, clock, older_than_days=KEEP_DELETED_DAYS)

    async def close() -> None:
        database.hold()
        await database.close()

    return EmbeddedService(opened, check, close, clock)
