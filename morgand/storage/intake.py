"""Documents into the library, several in one transaction: what a commit costs is paid once for all of them.

Writers on PostgreSQL lock in one order, so that none waits in a circle: documents by id, then their chunks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from morgand.state.assistant import Document, DocumentState
from morgand.state.ports import DocumentResult
from morgand.storage import fulltext
from morgand.storage.models import Base, ChunkRow, DocumentRow, clean
from morgand.storage.rows import batches, chunk_values, document_of, new_id, valid_ids

BUCKET = "documents"
ADDING = 0x4D6F72676164  # "Morgad": the advisory lock of whoever adds documents to PostgreSQL
DOCUMENTS = Base.metadata.tables["documents"]
CHUNKS = Base.metadata.tables["document_chunks"]

_COMPLETE = (
    update(DOCUMENTS)
    .where(DOCUMENTS.c.id == bindparam("document"))
    .values(
        state=DocumentState.COMPLETED.value, error=None, updated_at=bindparam("now"), title=bindparam("new_title"),
        mime=bindparam("new_mime"), chunks=bindparam("all"), embeddings=bindparam("embedded"),
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Version:
    """A live document among those of its source."""

    id: UUID
    source: str
    revision: int
    chunks: int


def outcome(order: Sequence[UUID], live: Sequence[Version]) -> dict[UUID, list[Version]]:
    """What each completion replaces, when they are done in this order (pure).

    A document that is gone, or that a newer one before it in the order has replaced, is left out.
    """
    there = {one.id: one for one in live}
    replaced: dict[UUID, list[Version]] = {}
    for document in order:
        if (ours := there.get(document)) is None:
            continue
        older = [one for one in there.values() if one.source == ours.source and one.revision < ours.revision]
        for one in older:
            del there[one.id]
        replaced[document] = older
    return replaced


async def add(
    session: AsyncSession, documents: Sequence[Document], now: datetime, *, sqlite: bool
) -> list[tuple[Document, bool]]:
    """See ``Library.add_many``. Only the newest of a source counts as 'already there': A, B, A ends with A."""
    if not sqlite:  # one after the other: two of a source that do not see each other would get the same revision
        await session.execute(select(func.pg_advisory_xact_lock(ADDING)))
    ids = [new_id(one.id, "document") for one in documents]
    there, newest, last = await _known(session, ids, sorted({clean(one.source) for one in documents}))
    rows: list[dict[str, Any]] = []
    result: list[tuple[Document, bool]] = []
    for identity, given in zip(ids, documents, strict=True):
        source = clean(given.source)
        same = newest.get(source)
        if identity in there:
            result.append((there[identity], False))
        elif same is not None and same.sha256 == given.sha256:
            result.append((same, False))
        else:
            new = replace(
                given, name=clean(given.name), source=source, chunks=0, embeddings=0, created=now, updated=now
            )
            last[source] = last.get(source, 0) + 1
            there[identity] = newest[source] = new
            rows.append(_row(identity, new, last[source]))
            result.append((new, True))
    if rows:
        await (await session.connection()).execute(insert(DOCUMENTS), rows)
    return result


async def _known(
    session: AsyncSession, ids: Sequence[UUID], sources: Sequence[str]
) -> tuple[dict[UUID, Document], dict[str, Document], dict[str, int]]:
    """Live documents by id; the newest live and not failed one and the last revision by source."""
    there: dict[UUID, Document] = {}
    newest: dict[str, Document] = {}
    last: dict[str, int] = {}
    live = select(DocumentRow).where(DocumentRow.deleted_at.is_(None)).order_by(DocumentRow.revision)
    revisions = select(DocumentRow.source, func.max(DocumentRow.revision)).group_by(DocumentRow.source)
    for batch in batches(ids):
        there.update({row.id: document_of(row) for row in await session.scalars(live.where(DocumentRow.id.in_(batch)))})
    for part in batches(sources):
        last.update({row[0]: row[1] for row in await session.execute(revisions.where(DocumentRow.source.in_(part)))})
    for part in batches(sorted(last)):
        good = DocumentRow.source.in_(part), DocumentRow.state != DocumentState.FAILED.value
        newest.update({row.source: document_of(row) for row in await session.scalars(live.where(*good))})
    return there, newest, last


async def complete(
    session: AsyncSession, completions: Mapping[UUID, DocumentResult], now: datetime, *, sqlite: bool
) -> dict[UUID, list[Version]]:
    """See ``Library.complete_many``; by id, in the order given."""
    live = await _lock_sources(session, list(completions))
    replaced = outcome(list(completions), live)
    buried = [one.id for older in replaced.values() for one in older]
    kept = {identity: completions[identity] for identity in replaced if identity not in buried}
    filled = [one.id for one in live if one.chunks]
    await _remove_chunks(session, [one for one in filled if one in kept or one in buried], sqlite=sqlite)
    await _insert_chunks(session, kept, now, sqlite=sqlite)
    if kept:
        values = [_completed(identity, one, now) for identity, one in kept.items()]
        await (await session.connection()).execute(_COMPLETE, values)
    await _mark_buried(session, buried, now)
    return replaced


async def bury(session: AsyncSession, document: UUID, now: datetime, *, sqlite: bool) -> None:
    """Remove a document's text at once; the row stays as a tombstone."""
    await _remove_chunks(session, [document], sqlite=sqlite)
    await _mark_buried(session, [document], now)


async def lock(session: AsyncSession, documents: Collection[UUID]) -> None:
    """Keep other writers off these documents until the transaction ends."""
    for batch in batches(sorted(documents)):
        await session.execute(
            select(DOCUMENTS.c.id).where(DOCUMENTS.c.id.in_(batch)).order_by(DOCUMENTS.c.id).with_for_update()
        )


async def _lock_sources(session: AsyncSession, ids: Sequence[UUID]) -> list[Version]:
    """All live documents of the sources of these. Locked, so that two hosts never complete one source at once."""
    sources = select(DOCUMENTS.c.source).where(DOCUMENTS.c.id.in_(ids))
    columns = select(DOCUMENTS.c.id, DOCUMENTS.c.source, DOCUMENTS.c.revision, DOCUMENTS.c.chunks)
    live = columns.where(DOCUMENTS.c.source.in_(sources), DOCUMENTS.c.deleted_at.is_(None))
    return [Version(*row) for row in await session.execute(live.order_by(DOCUMENTS.c.id).with_for_update())]


async def _insert_chunks(
    session: AsyncSession, completions: Mapping[UUID, DocumentResult], now: datetime, *, sqlite: bool
) -> None:
    chunks = [(identity, chunk) for identity, one in completions.items() for chunk in one.chunks]
    if not chunks:
        return
    first = await fulltext.next_row(session) if sqlite else None
    rows: list[dict[str, Any]] = []
    for number, (identity, chunk) in enumerate(chunks):
        values = chunk_values(chunk, identity, now, None if first is None else first + number)
        rows.append({**values, "text": clean(chunk.chunk.text)})
    await (await session.connection()).execute(insert(CHUNKS), rows)
    if sqlite:
        await fulltext.fill(session, rows)


async def _remove_chunks(session: AsyncSession, documents: Sequence[UUID], *, sqlite: bool) -> None:
    for document in documents:
        if sqlite:
            await fulltext.empty(session, document)
        await session.execute(delete(ChunkRow).where(ChunkRow.document_id == document))


async def _mark_buried(session: AsyncSession, documents: Sequence[UUID], now: datetime) -> None:
    for batch in batches(documents):
        mark = update(DOCUMENTS).where(DOCUMENTS.c.id.in_(batch))
        gone = {"deleted_at": now, "updated_at": now, "title": None, "error": None, "chunks": 0, "embeddings": 0}
        await session.execute(mark.values(gone))


def _row(identity: UUID, document: Document, revision: int) -> dict[str, Any]:
    return {
        "id": identity, "name": document.name, "source": document.source, "revision": revision, "mime": document.mime,
        "size_bytes": document.size_bytes, "sha256": document.sha256, "bucket": BUCKET,
        "object_key": document.object_key, "state": document.state.value, "chunks": 0, "embeddings": 0,
        "error": document.error, "title": document.title, "created_at": document.created,
        "updated_at": document.updated, "metadata": {},
    }  # fmt: skip


def _completed(identity: UUID, one: DocumentResult, now: datetime) -> dict[str, Any]:
    return {
        "document": identity, "now": now, "new_title": one.title, "new_mime": one.mime, "all": len(one.chunks),
        "embedded": sum(chunk.embedding is not None for chunk in one.chunks),
    }  # fmt: skip


def by_id(completions: Sequence[DocumentResult]) -> dict[UUID, DocumentResult]:
    """Those whose id can name something."""
    return {valid[0]: one for one in completions if (valid := valid_ids([one.document]))}
