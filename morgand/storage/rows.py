"""Rows to values and back: the mapping between the tables and the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from morgand.base.errors import InvalidInput, NotFound
from morgand.state.assistant import (
    Chunk,
    Citation,
    Conversation,
    Document,
    DocumentState,
    Level,
    Message,
    Speaker,
    StoredChunk,
)
from morgand.storage.models import ChunkRow, ConversationRow, DocumentRow, MessageRow

T = TypeVar("T")
BATCH = 500  # ids in one IN list


def known_id(value: str, kind: str) -> UUID:
    """The id of something that should exist. Raises NotFound: what is no UUID names nothing."""
    try:
        return UUID(value)
    except ValueError as err:
        raise NotFound(f"There is no {kind} '{value}'.") from err


def new_id(value: str, kind: str) -> UUID:
    """The id of something to be made. Raises InvalidInput."""
    try:
        return UUID(value)
    except ValueError as err:
        raise InvalidInput(f"'{value}' is not a valid {kind} id.", remedy="Use a UUID.") from err


def valid_ids(values: Sequence[str]) -> list[UUID]:
    """Those of ``values`` that can name something."""
    found = []
    for value in values:
        try:
            found.append(UUID(value))
        except ValueError:
            continue
    return found


def batches(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), BATCH):
        yield values[start : start + BATCH]


def message_of(row: MessageRow) -> Message:
    return Message(
        id=str(row.id),
        conversation=str(row.conversation_id),
        speaker=Speaker(row.role),
        text=row.content,
        tokens=row.tokens,
        created=row.created_at,
        citations=msgspec.convert(row.citations, tuple[Citation, ...]),
        notices=tuple(row.notices),
    )


def conversation_of(row: ConversationRow) -> Conversation:
    return Conversation(
        id=str(row.id),
        title=row.title,
        created=row.created_at,
        updated=row.updated_at,
        messages=row.message_count,
        user=row.user,
        summary=row.summary,
        summary_through=str(row.summary_through) if row.summary_through else None,
    )


def document_of(row: DocumentRow) -> Document:
    return Document(
        id=str(row.id),
        name=row.name,
        source=row.source,
        mime=row.mime,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        object_key=row.object_key,
        state=DocumentState(row.state),
        created=row.created_at,
        updated=row.updated_at,
        chunks=row.chunks,
        embeddings=row.embeddings,
        error=row.error,
        title=row.title,
        machine=row.machine,
        machine_name=row.machine_name,
        replaced=row.replaced_at,
    )


def chunk_of(row: ChunkRow) -> StoredChunk:
    return StoredChunk(
        id=str(row.id),
        document=str(row.document_id),
        chunk=Chunk(
            level=Level(row.level),
            index=row.position,
            parent=row.parent,
            text=row.text,
            tokens=row.tokens,
            place=row.place,
        ),
        parent_id=str(row.parent_id) if row.parent_id else None,
        embedding=row.embedding,
    )


def chunk_values(stored: StoredChunk, document: UUID, now: datetime, fulltext_row: int | None) -> dict[str, Any]:
    """Column values of a new chunk row, by table column."""
    chunk = stored.chunk
    return {
        "id": new_id(stored.id, "chunk"),
        "document_id": document,
        "level": chunk.level.value,
        "position": chunk.index,
        "parent": chunk.parent,
        "parent_id": new_id(stored.parent_id, "chunk") if stored.parent_id else None,
        "text": chunk.text,
        "tokens": chunk.tokens,
        "place": chunk.place,
        "embedding": stored.embedding,
        "fulltext_row": fulltext_row,
        "created_at": now,
        "updated_at": now,
        "deleted_at": None,
        "metadata": {},
    }
