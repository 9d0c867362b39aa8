"""Documents into the library, several in one transaction: what a commit costs is paid once for all of them.

Writers on PostgreSQL lock in one order, so that none waits in a circle: documents by id, then their chunks.

Until every host knows of machines and of versions (``all_know``) documents are of no machine, and one that is
replaced is removed: a program of the version before, which may serve this database next, knows only paths.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from morgand.state.assistant import Document, DocumentState, Identity
from morgand.state.ports import DocumentResult
from morgand.storage import fulltext
from morgand.storage.models import Base, ChunkRow, DocumentRow, clean
from morgand.storage.rows import batches, chunk_values, document_of, new_id, valid_ids

BUCKET = "documents"
ADDING = 0x4D6F72676164  # "Morgad": the advisory lock of whoever adds documents to PostgreSQL
ALL_KNOW = text("SELECT 1 FROM alembic_version WHERE version_num LIKE 'post_%' LIMIT 1")
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
    """A live document that no other one replaces yet."""

    id: UUID
    identity: Identity
    revision: int
    chunks: int = 0
    state: str = DocumentState.PENDING.value


def outcome(order: Sequence[UUID], live: Sequence[Version]) -> dict[UUID, list[Version]]:
    """What each completion replaces, when they are done in this order (pure).

    A document that is gone, or that a newer one before it in the order has replaced, is left out.
    """
    there = {one.id: one for one in live}
    replaced: dict[UUID, list[Version]] = {}
    for document in order:
        if (ours := there.get(document)) is None:
            continue
        older = [one for one in there.values() if one.identity == ours.identity and one.revision < ours.revision]
        for one in older:
            del there[one.id]
        replaced[document] = older
    return replaced


async def all_know(session: AsyncSession) -> bool:
    """Whether every host knows of machines and versions: what is applied then, older programs do not go on with."""
    return await session.scalar(ALL_KNOW) is not None


async def add(
    session: AsyncSession, documents: Sequence[Document], now: datetime, *, sqlite: bool
) -> list[tuple[Document, bool]]:
    """See ``Library.add_many``. Only the newest of a document counts as 'already there': A, B, A ends with A."""
    if not sqlite:  # one after the other: two of a source that do not see each other would get the same revision
        await session.execute(select(func.pg_advisory_xact_lock(ADDING)))
    given = [_storable(one) for one in documents]
    if not await all_know(session):
        given = [replace(one, machine="", machine_name="") for one in given]
    ids = [new_id(one.id, "document") for one in given]
    there, newest, last = await _known(session, ids, sorted({one.source for one in given}))
    await _adopt(session, given, newest, now)
    rows: list[dict[str, Any]] = []
    result: list[tuple[Document, bool]] = []
    for identity, one in zip(ids, given, strict=True):
        same = newest.get(one.identity)
        if identity in there:
            result.append((there[identity], False))
        elif same is not None and same.sha256 == one.sha256:
            result.append((same, False))
        else:
            new = replace(one, chunks=0, embeddings=0, created=now, updated=now)
            last[one.source] = last.get(one.source, 0) + 1
            there[identity] = newest[one.identity] = new
            rows.append(_row(identity, new, last[one.source]))
            result.append((new, True))
    if rows:
        await (await session.connection()).execute(insert(DOCUMENTS), rows)
    return result


def adopted(given: Sequence[Document], newest: Mapping[Identity, Document]) -> dict[Identity, Document]:
    """Documents that are of no machine yet, each with the first upload that is the same and takes it over (pure).

    The same is the same source and content, from a machine that has no document of this source.
    """
    found: dict[Identity, Document] = {}
    for one in given:
        nobodys = Identity("", one.source)
        same = newest.get(nobodys)
        if one.machine and one.identity not in newest and same is not None and same.sha256 == one.sha256:
            found.setdefault(nobodys, one)
    return found


async def _adopt(
    session: AsyncSession, given: Sequence[Document], newest: dict[Identity, Document], now: datetime
) -> None:
    """Make documents of no machine, and what else there is of them, the machine's that sends them again."""
    for nobodys, by in adopted(given, newest).items():
        these = DOCUMENTS.c.source == nobodys.source, DOCUMENTS.c.machine == "", DOCUMENTS.c.deleted_at.is_(None)
        await lock(session, list(await session.scalars(select(DOCUMENTS.c.id).where(*these))))
        values = {"machine": by.machine, "machine_name": by.machine_name, "updated_at": now}
        await session.execute(update(DOCUMENTS).where(*these).values(values))
        was = newest.pop(nobodys)
        newest[by.identity] = replace(was, machine=by.machine, machine_name=by.machine_name, updated=now)


async def _known(
    session: AsyncSession, ids: Sequence[UUID], sources: Sequence[str]
) -> tuple[dict[UUID, Document], dict[Identity, Document], dict[str, int]]:
    """Live documents by id; the newest live and not failed one of each identity, the last revision by source."""
    there: dict[UUID, Document] = {}
    newest: dict[Identity, Document] = {}
    last: dict[str, int] = {}
    live = select(DocumentRow).where(DocumentRow.deleted_at.is_(None)).order_by(DocumentRow.revision)
    revisions = select(DocumentRow.source, func.max(DocumentRow.revision)).group_by(DocumentRow.source)
    for batch in batches(ids):
        there.update({row.id: document_of(row) for row in await session.scalars(live.where(DocumentRow.id.in_(batch)))})
    for part in batches(sources):
        last.update({row[0]: row[1] for row in await session.execute(revisions.where(DocumentRow.source.in_(part)))})
    current = live.where(DocumentRow.state != DocumentState.FAILED.value, DocumentRow.replaced_at.is_(None))
    for part in batches(sorted(last)):
        found = map(document_of, await session.scalars(current.where(DocumentRow.source.in_(part))))
        newest.update({one.identity: one for one in found})
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
    failed = [one.id for older in replaced.values() for one in older if one.state == DocumentState.FAILED.value]
    kept_on = [one for one in buried if one not in failed] if buried and await all_know(session) else []
    await _mark_buried(session, [one for one in buried if one not in kept_on], now)
    await _mark_replaced(session, kept_on, now)
    return replaced


async def bury(session: AsyncSession, documents: Sequence[UUID], now: datetime, *, sqlite: bool) -> None:
    """Remove the text of documents at once; their rows stay as tombstones."""
    await _remove_chunks(session, documents, sqlite=sqlite)
    await _mark_buried(session, documents, now)


async def lock(session: AsyncSession, documents: Collection[UUID]) -> None:
    """Keep other writers off these documents until the transaction ends."""
    for batch in batches(sorted(documents)):
        await session.execute(
            select(DOCUMENTS.c.id).where(DOCUMENTS.c.id.in_(batch)).order_by(DOCUMENTS.c.id).with_for_update()
        )


async def lock_source(session: AsyncSession, source: str) -> None:
    """Keep other writers off all documents of a source until the transaction ends."""
    live = select(DOCUMENTS.c.id).where(DOCUMENTS.c.source == source, DOCUMENTS.c.deleted_at.is_(None))
    await session.execute(live.order_by(DOCUMENTS.c.id).with_for_update())


async def _lock_sources(session: AsyncSession, ids: Sequence[UUID]) -> list[Version]:
    """All live documents of the sources of these, whatever their machine, without earlier versions. Locked, so that two
    hosts never complete one source at once."""
    sources = select(DOCUMENTS.c.source).where(DOCUMENTS.c.id.in_(ids))
    its = DOCUMENTS.c
    live = select(its.id, its.machine, its.source, its.revision, its.chunks, its.state).where(
        its.source.in_(sources), its.deleted_at.is_(None), its.replaced_at.is_(None)
    )
    found = await session.execute(live.order_by(its.id).with_for_update())
    return [Version(row[0], Identity(row[1], row[2]), *row[3:]) for row in found]


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


async def _mark_replaced(session: AsyncSession, documents: Sequence[UUID], now: datetime) -> None:
    """Nothing is to be done for an earlier version any more, whatever it waited for."""
    for batch in batches(documents):
        mark = update(DOCUMENTS).where(DOCUMENTS.c.id.in_(batch))
        done = {"state": DocumentState.COMPLETED.value, "error": None, "chunks": 0, "embeddings": 0}
        await session.execute(mark.values({"replaced_at": now, "updated_at": now, **done}))


def _storable(document: Document) -> Document:
    return replace(
        document, name=clean(document.name), source=clean(document.source), machine=clean(document.machine),
        machine_name=clean(document.machine_name),
    )  # fmt: skip


def _row(identity: UUID, document: Document, revision: int) -> dict[str, Any]:
    return {
        "id": identity, "name": document.name, "source": document.source, "revision": revision, "mime": document.mime,
        "size_bytes": document.size_bytes, "sha256": document.sha256, "bucket": BUCKET,
        "object_key": document.object_key, "state": document.state.value, "chunks": 0, "embeddings": 0,
        "error": document.error, "title": document.title, "created_at": document.created,
        "updated_at": document.updated, "metadata": {}, "machine": document.machine,
        "machine_name": document.machine_name,
    }  # fmt: skip


def _completed(identity: UUID, one: DocumentResult, now: datetime) -> dict[str, Any]:
    return {
        "document": identity, "now": now, "new_title": one.title, "new_mime": one.mime, "all": len(one.chunks),
        "embedded": sum(chunk.embedding is not None for chunk in one.chunks),
    }  # fmt: skip


def by_id(completions: Sequence[DocumentResult]) -> dict[UUID, DocumentResult]:
    """Those whose id can name something."""
    return {valid[0]: one for one in completions if (valid := valid_ids([one.document]))}
