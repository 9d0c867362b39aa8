"""Perform the database role here: on the embedded default, a SQLite file in this process."""

from __future__ import annotations

from morgand.clock import Clock
from morgand.roles.base import EmbeddedService, Service
from morgand.storage.database import Database
from morgand.storage.migrate import upgrade


def service(database: Database, clock: Clock) -> Service:
    """Open the file, bring its schema up to date, admit its users, then check that it answers."""
    database.hold()

    async def opened() -> None:
        await database.open()
        await upgrade(database, "all")
        database.admit()

    async def check() -> None:
        await database.health()

    async def close() -> None:
        database.hold()
        await database.close()

    return EmbeddedService(opened, check, close, clock)
