"""Physical removal of what was soft-deleted long ago, and of its last traces in the database file."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, select, text

from morgand.base.clock import Clock
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
            # locked in the order in which everybody locks
            old = select(model.id).where(model.deleted_at < horizon).order_by(model.id).with_for_update()
            gone = await (await session.connection()).execute(delete(model).where(model.id.in_(old)))
            removed += gone.rowcount
        if database.is_sqlite:
            await fulltext.compact(session)
    if database.is_sqlite:  # the log still holds pages as they were before
        async with database.outside_transaction() as connection:
            await connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    return removed
