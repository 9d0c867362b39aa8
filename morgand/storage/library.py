"""Documents and their chunks (port ``Library``): the source of truth for retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NoReturn
from uuid import UUID

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from morgand.base.clock import Clock
from morgand.base.errors import NotFound
from morgand.state.assistant import Document, DocumentState, Level, StoredChunk
from morgand.state.ports import DocumentResult
from morgand.storage import fulltext, intake, versions
from morgand.storage.database import Database
from morgand.storage.models import Base, ChunkRow, DocumentRow
from morgand.storage.rows import batches, chunk_of, document_of, known_id, valid_ids

TABLE = Base.metadata.tables["document_chunks"]
CURRENT = DocumentRow.deleted_at.is_(None), DocumentRow.replaced_at.is_(None)


class SqlLibrary:
    """Implements ``ports.Library``."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def document(self, document: str) -> Document:
        async with self._database.read() as session:
            return document_of(await _live(session, document))

    async def documents(
        self, *, state: DocumentState | None = None, limit: int = 1000, offset: int = 0, earlier: bool = False
    ) -> list[Document]:
        """By name."""
        those = CURRENT[:1] if earlier else CURRENT
        query = select(DocumentRow).where(*those).order_by(DocumentRow.name, DocumentRow.id).limit(limit).offset(offset)
        if state is not None:
            query = query.where(DocumentRow.state == state.value)
        async with self._database.read() as session:
            return [document_of(row) for row in await session.scalars(query)]

    async def states(self) -> dict[str, int]:
        """Documents per state."""
        query = select(DocumentRow.state, func.count()).where(*CURRENT)
        async with self._database.read() as session:
            found = {row[0]: row[1] for row in await session.execute(query.group_by(DocumentRow.state))}
        return {state.value: found.get(state.value, 0) for state in DocumentState}

    async def add_many(self, documents: Sequence[Document]) -> list[tuple[Document, bool]]:
        """See the port."""
        async with self._database.write() as session:
            return await intake.add(session, documents, self._clock.now(), sqlite=self._database.is_sqlite)

    async def start(self, documents: Sequence[str]) -> list[Document]:
        """In the order given."""
        ids = valid_ids(documents)
        these = DocumentRow.id.in_(ids), *CURRENT
        mark = update(DocumentRow).where(*these).execution_options(synchronize_session=False)
        async with self._database.write() as session:
            await intake.lock(session, ids)
            await session.execute(
                mark.values(state=DocumentState.PROCESSING.value, error=None, updated_at=self._clock.now())
            )
            found = {row.id: document_of(row) for row in await session.scalars(select(DocumentRow).where(*these))}
        return [found[one] for one in ids if one in found]

    async def set_state(self, document: str, state: DocumentState, error: str | None = None) -> None:
        async with self._database.write() as session:
            row = await _live(session, document, lock=True)
            if row.replaced_at is not None:
                _gone(document)
            row.state, row.error, row.updated_at = state.value, error, self._clock.now()

    async def complete_many(self, completions: Sequence[DocumentResult]) -> dict[str, list[str]]:
        """See the port."""
        known = intake.by_id(completions)
        async with self._database.write() as session:
            done = await intake.complete(session, known, self._clock.now(), sqlite=self._database.is_sqlite)
        return {known[identity].document: [str(one.id) for one in older] for identity, older in done.items()}

    async def delete(self, document: str) -> Document:
        """Returns the document as it was. Its text, embeddings and versions are gone when this returns."""
        async with self._database.write() as session:
            row = await _live(session, document)
            await intake.lock_source(session, row.source)  # whoever completes one may make a version of another
            await session.refresh(row)
            if row.deleted_at:
                _gone(document)
            was = document_of(row)
            earlier = [] if row.replaced_at else await versions.before(session, row)
            await intake.bury(session, [row.id, *earlier], self._clock.now(), sqlite=self._database.is_sqlite)
        return was

    async def versions(self, document: str) -> list[Document]:
        """See the port."""
        async with self._database.read() as session:
            row = await _live(session, document)
            return [document_of(one) for one in await versions.of(session, row)]

    async def retire(self, *, keep: int, days: int, limit: int) -> int:
        """See the port."""
        now = self._clock.now()
        async with self._database.write() as session:
            old = await versions.expired(session, keep, now - timedelta(days=days), limit)
            await intake.lock(session, old)
            await intake.bury(session, old, now, sqlite=self._database.is_sqlite)
        return len(old)

    async def chunks(self, document: str) -> list[StoredChunk]:
        """By level (coarse, fine, medium), in reading order."""
        async with self._database.read() as session:
            row = await _live(session, document)
            found = await session.scalars(
                select(ChunkRow).where(ChunkRow.document_id == row.id).order_by(ChunkRow.level, ChunkRow.position)
            )
            return [chunk_of(chunk) for chunk in found]

    async def chunks_by_id(self, ids: Sequence[str]) -> dict[str, StoredChunk]:
        """Those that exist."""
        found: dict[str, StoredChunk] = {}
        async with self._database.read() as session:
            for batch in batches(valid_ids(ids)):
                for row in await session.scalars(select(ChunkRow).where(ChunkRow.id.in_(batch))):
                    found[str(row.id)] = chunk_of(row)
        return found

    async def fine_of(self, medium: Sequence[str]) -> dict[str, list[StoredChunk]]:
        """See the port; a medium chunk without fine ones is there with an empty list."""
        found: dict[str, list[StoredChunk]] = {chunk: [] for chunk in medium}
        async with self._database.read() as session:
            for batch in batches(valid_ids(medium)):
                query = select(ChunkRow).where(ChunkRow.parent_id.in_(batch), ChunkRow.level == Level.FINE.value)
                for row in await session.scalars(query.order_by(ChunkRow.position)):
                    found.setdefault(str(row.parent_id), []).append(chunk_of(row))
        return found

    async def live(self) -> dict[str, int]:
        completed = DocumentRow.state == DocumentState.COMPLETED.value
        query = select(DocumentRow.id, DocumentRow.chunks).where(completed, *CURRENT)
        async with self._database.read() as session:
            return {str(row.id): row.chunks for row in await session.execute(query)}

    async def set_embeddings(self, embeddings: dict[str, bytes]) -> None:
        """Chunks that are gone by now, or come while this waits for others, are passed over."""
        given = {UUID(chunk): embedding for chunk, embedding in embeddings.items()}
        now = self._clock.now()
        store = update(TABLE).where(TABLE.c.id == bindparam("chunk"))
        async with self._database.write() as session:
            found: dict[UUID, UUID] = {}  # the document of each chunk: those that come later are not locked
            for batch in batches(list(given)):
                rows = await session.execute(select(ChunkRow.id, ChunkRow.document_id).where(ChunkRow.id.in_(batch)))
                found.update((row.id, row.document_id) for row in rows)
            if not found:
                return
            documents = set(found.values())
            await intake.lock(session, documents)  # before their chunks, like everybody else
            values = [{"chunk": chunk, "bytes": given[chunk]} for chunk in found]
            connection = await session.connection()
            await connection.execute(store.values(embedding=bindparam("bytes"), updated_at=now), values)
            for document in documents:
                embedded = ChunkRow.document_id == document, ChunkRow.embedding.is_not(None)
                number = select(func.count()).select_from(ChunkRow).where(*embedded).scalar_subquery()
                await session.execute(update(DocumentRow).where(DocumentRow.id == document).values(embeddings=number))

    async def without_embeddings(self, limit: int) -> list[StoredChunk]:
        async with self._database.read() as session:
            query = select(ChunkRow).where(ChunkRow.embedding.is_(None)).order_by(ChunkRow.id).limit(limit)
            return [chunk_of(row) for row in await session.scalars(query)]

    async def keyword_search(self, text: str, level: Level, *, limit: int) -> list[tuple[str, float]]:
        """See the port. Only completed, live documents have chunks, so only theirs are found."""
        async with self._database.read() as session:
            return await fulltext.search(session, text, level, limit=limit, sqlite=self._database.is_sqlite)

    async def object_used(self, key: str) -> bool:
        async with self._database.read() as session:
            live = select(DocumentRow.id).where(DocumentRow.deleted_at.is_(None), DocumentRow.object_key == key)
            return await session.scalar(live.limit(1)) is not None

    async def object_keys(self, documents: Sequence[str], *, earlier: bool = False) -> dict[str, str]:
        """See the port."""
        found: dict[str, str] = {}
        async with self._database.read() as session:
            for batch in batches(valid_ids(documents)):
                these = DocumentRow.id.in_(batch)
                query = select(DocumentRow.id, DocumentRow.object_key).where(
                    these | versions.before_these(batch) if earlier else these
                )
                found.update({str(row.id): row.object_key for row in await session.execute(query)})
        return found


async def _live(session: AsyncSession, document: str, *, lock: bool = False) -> DocumentRow:
    row = await session.get(DocumentRow, known_id(document, "document"), with_for_update=lock or None)
    if row is None or row.deleted_at:
        _gone(document)
    return row


def _gone(document: str) -> NoReturn:
    raise NotFound(f"There is no document '{document}'.", remedy="See `morganctl documents list`.")
