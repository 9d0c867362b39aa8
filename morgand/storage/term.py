"""The epoch in which PostgreSQL is written: one row, which every writer shares and a new term takes.

A transaction of an older epoch either ends before the new term begins or is refused. Sharing the row's lock is also a
write: every commit of ours reaches the write-ahead log, and so waits for the standby, even when it changes nothing.
"""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from morgand.base.errors import Fenced
from morgand.storage.models import Base

ONLY = 1  # the row's id
TERM = Base.metadata.tables["term"]
_SHARE = select(TERM.c.epoch).where(TERM.c.id == ONLY).with_for_update(read=True)


async def confirm(session: AsyncSession, epoch: int) -> None:
    """Raises Fenced when a newer epoch than ours has begun; else none begins until this transaction ends."""
    newest = await session.scalar(_SHARE)
    if newest is None or newest > epoch:
        raise Fenced(f"Epoch {newest} of the database has begun; this host acts in epoch {epoch}.")


async def begin(session: AsyncSession, epoch: int) -> None:
    """Raises Fenced when a newer epoch has begun."""
    raised = update(TERM).where(TERM.c.id == ONLY, TERM.c.epoch <= epoch).values(epoch=epoch)
    if await session.scalar(raised.returning(TERM.c.epoch)) is None:
        raise Fenced(f"A newer epoch of the database than {epoch} has begun.")
