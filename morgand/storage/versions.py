"""Earlier versions of documents: rows that are live, have an original and no text, and that a newer one replaces.

A document is replaced only by a newer one of its identity, which is complete then; so below a document that is not
replaced lie its versions, as far as the next one that is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from morgand.storage.models import DocumentRow

LIVE = DocumentRow.deleted_at.is_(None)
NEWEST_FIRST = DocumentRow.revision.desc()


def _same(row: DocumentRow) -> tuple[ColumnElement[bool], ...]:
    """Rows of its identity."""
    return LIVE, DocumentRow.source == row.source, DocumentRow.machine == row.machine


async def before(session: AsyncSession, row: DocumentRow) -> list[UUID]:
    """The versions of a document that is not one itself, newest first."""
    older = select(DocumentRow.id, DocumentRow.replaced_at).where(*_same(row), DocumentRow.revision < row.revision)
    found = (await session.execute(older.order_by(NEWEST_FIRST))).all()
    return [one.id for one in takewhile(lambda one: one.replaced_at is not None, found)]


async def of(session: AsyncSession, row: DocumentRow) -> Sequence[DocumentRow]:
    """The document that ``row`` is, or is a version of, and its versions, newest first."""
    newer = DocumentRow.revision > row.revision, DocumentRow.replaced_at.is_(None)
    current = row
    if row.replaced_at is not None:
        above = select(DocumentRow).where(*_same(row), *newer).order_by(DocumentRow.revision).limit(1)
        current = await session.scalar(above) or row
    these = select(DocumentRow).where(DocumentRow.id.in_([current.id, *await before(session, current)]))
    return (await session.scalars(these.order_by(NEWEST_FIRST))).all()


def before_these(documents: Sequence[UUID]) -> ColumnElement[bool]:
    """Which rows are or were versions of these documents."""
    newer = aliased(DocumentRow)
    below = newer.source == DocumentRow.source, newer.machine == DocumentRow.machine
    later = select(newer.id).where(newer.id.in_(documents), *below, newer.revision > DocumentRow.revision)
    return and_(DocumentRow.replaced_at.is_not(None), later.exists())


async def expired(session: AsyncSession, keep: int, horizon: datetime, limit: int) -> list[UUID]:
    """Versions that are not among the last ``keep`` of their identity, or were replaced before ``horizon``."""
    place = func.row_number().over(
        partition_by=(DocumentRow.source, DocumentRow.machine), order_by=DocumentRow.revision.desc()
    )
    replaced = DocumentRow.replaced_at
    ranked = select(DocumentRow.id, replaced, place.label("place")).where(LIVE, replaced.is_not(None)).subquery()
    old = or_(ranked.c.place > keep, ranked.c.replaced_at < horizon)
    return list(await session.scalars(select(ranked.c.id).where(old).order_by(ranked.c.replaced_at).limit(limit)))
