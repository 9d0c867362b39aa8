"""Physical removal of what was soft-deleted long ago, and of its last traces in the database file."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, func, select, text

from morgand.clock import Clock
from morgand.storage import fulltext
from morgand.storage.database import Database
from morgand.storage.models import (
    ChunkRow,
    ConversationRow,
    DocumentRow,
    FeedbackRow,
    MessageRow,
    PreferenceRow,
)

CHILDREN_FIRST = (FeedbackRow, MessageRow, ConversationRow, ChunkRow, DocumentRow, PreferenceRow)


async def purge(database: Database, clock: Clock, *, older_than_days: int) -> int:
    """Remove rows soft-deleted more than ``older_than_days`` ago and return how many there were."""
    horizon = clock.now() - timedelta(days=older_than_days)
    removed = 0
    async with database.write() as session:
        for model in CHILDREN_FIRST:
            old = model.deleted_at < horizon
            removed += await session.scalar(select(func.count()).select_from(model).where(old)) or 0
            await session.execute(delete(model).where(old))
        if database.is_sqlite:
            await fulltext.compact(session)
    if database.is_sqlite:  # the log still holds pages as they were before
        async with database.outside_transaction() as connection:
            await connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    return removed
