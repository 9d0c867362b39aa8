"""Tables. One set of models for SQLite and PostgreSQL; every rule (cascade, soft delete, times) is in Python.

Rows that people make carry created, updated and deleted times. A soft-deleted row keeps its place but loses its text:
deleting something a person wrote removes it at once, what stays is a tombstone until ``purge`` removes that too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from morgand.state.assistant import DocumentState


def clean(value: str) -> str:
    """Text as it can be stored everywhere: PostgreSQL takes no NUL, neither database a lone surrogate."""
    return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time. SQLite keeps no zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the base's signature
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the base's signature
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class PlainText(TypeDecorator[str]):
    """Text of any length, made storable."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - the base's signature
        return None if value is None else clean(value)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Row:
    """What every table has."""

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    updated_at: Mapped[datetime] = mapped_column(UtcTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcTime)
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSON, default=dict)


class ConversationRow(Row, Base):
    """``message_count`` is also the position of the next message: order never depends on the clock."""

    __tablename__ = "conversations"
    __table_args__ = (Index(None, "updated_at"), Index(None, "user", "updated_at"))

    user: Mapped[str | None] = mapped_column(PlainText)
    session: Mapped[str | None] = mapped_column(PlainText)
    title: Mapped[str] = mapped_column(PlainText)
    summary: Mapped[str | None] = mapped_column(PlainText)
    summary_through: Mapped[UUID | None] = mapped_column(Uuid)
    message_count: Mapped[int]


class MessageRow(Row, Base):
    """The person's message has the id of its turn; the answer's id is derived from it (``history.answer_id``)."""

    __tablename__ = "messages"
    __table_args__ = (UniqueConstraint("conversation_id", "position"),)

    conversation_id: Mapped[UUID] = mapped_column(Uuid, ForeignKey("conversations.id"))
    position: Mapped[int]
    role: Mapped[str] = mapped_column(String(16))
    content: Mapped[str] = mapped_column(PlainText)
    tokens: Mapped[int]
    citations: Mapped[list[Any]] = mapped_column(JSON)
    notices: Mapped[list[Any]] = mapped_column(JSON)


class DocumentRow(Row, Base):
    """``revision`` counts the documents of one source: which of two is newer never depends on the clock. It counts
    those of all machines together, as the version before did, so that programs of both number alike.

    ``replaced_at``: since when it is an earlier version, without chunks.
    """

    __tablename__ = "documents"
    __table_args__ = (
        UniqueConstraint("source", "revision"),
        Index(None, "object_key"),
        Index(None, "state"),
        Index(
            None,
            "replaced_at",
            sqlite_where=text("replaced_at IS NOT NULL"),
            postgresql_where=text("replaced_at IS NOT NULL"),
        ),
    )

    user: Mapped[str | None] = mapped_column(PlainText)
    name: Mapped[str] = mapped_column(PlainText)
    source: Mapped[str] = mapped_column(PlainText)
    revision: Mapped[int]
    mime: Mapped[str] = mapped_column(PlainText)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    bucket: Mapped[str] = mapped_column(String(63))
    object_key: Mapped[str] = mapped_column(PlainText)
    state: Mapped[str] = mapped_column(String(16))
    chunks: Mapped[int]
    embeddings: Mapped[int]
    error: Mapped[str | None] = mapped_column(PlainText)
    title: Mapped[str | None] = mapped_column(PlainText)
    machine: Mapped[str] = mapped_column(PlainText, server_default="")
    machine_name: Mapped[str] = mapped_column(PlainText, server_default="")
    replaced_at: Mapped[datetime | None] = mapped_column(UtcTime)


class ChunkRow(Row, Base):
    """``parent`` and ``position`` count within a level. ``fulltext_row`` is the row in SQLite's full-text table."""

    __tablename__ = "document_chunks"
    __table_args__ = (
        UniqueConstraint("document_id", "level", "position"),
        Index(None, "parent_id"),
        Index(None, "fulltext_row", unique=True),
        Index(
            "ix_document_chunks_unembedded",
            "id",
            sqlite_where=text("embedding IS NULL"),
            postgresql_where=text("embedding IS NULL"),
        ),
        Index(
            "ix_document_chunks_fulltext",
            text("to_tsvector('english'::regconfig, text)"),
            postgresql_using="gin",
        ).ddl_if(dialect="postgresql"),
    )

    document_id: Mapped[UUID] = mapped_column(Uuid, ForeignKey("documents.id"))
    level: Mapped[str] = mapped_column(String(16))
    position: Mapped[int]
    parent: Mapped[int | None]
    parent_id: Mapped[UUID | None] = mapped_column(Uuid)
    text: Mapped[str] = mapped_column(PlainText)
    tokens: Mapped[int]
    place: Mapped[str] = mapped_column(PlainText)
    embedding: Mapped[bytes | None] = mapped_column(LargeBinary)
    fulltext_row: Mapped[int | None] = mapped_column(BigInteger)


class FeedbackRow(Row, Base):
    __tablename__ = "feedback"
    __table_args__ = (Index(None, "conversation_id"), Index(None, "message_id"))

    conversation_id: Mapped[UUID] = mapped_column(Uuid, ForeignKey("conversations.id"))
    message_id: Mapped[UUID | None] = mapped_column(Uuid, ForeignKey("messages.id"))
    user: Mapped[str | None] = mapped_column(PlainText)
    rating: Mapped[int | None]
    comment: Mapped[str | None] = mapped_column(PlainText)
    kind: Mapped[str] = mapped_column(String(16))


class PreferenceRow(Row, Base):
    __tablename__ = "user_preferences"
    __table_args__ = (UniqueConstraint("user", "key"),)

    user: Mapped[str] = mapped_column(PlainText)
    key: Mapped[str] = mapped_column(PlainText)
    value: Mapped[Any] = mapped_column(JSON)
    confidence: Mapped[float] = mapped_column(Double)


class TermRow(Base):
    """One row: the epoch in which this database is written. No data; it never moves to another database."""

    __tablename__ = "term"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    epoch: Mapped[int] = mapped_column(BigInteger)


COMPLETED = DocumentState.COMPLETED.value
