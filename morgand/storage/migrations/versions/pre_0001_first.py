"""The first tables: conversations, messages, documents, chunks, feedback, preferences."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "pre_0001"
down_revision = None
branch_labels = ("pre",)
depends_on = None

LEVELS = ("coarse", "medium", "fine")


def upgrade() -> None:
    _conversations()
    _documents()
    _people()
    if op.get_bind().dialect.name == "sqlite":
        for level in LEVELS:
            op.execute(
                f"CREATE VIRTUAL TABLE chunk_fts_{level} "
                "USING fts5(text, content='', tokenize='porter unicode61 remove_diacritics 2')"
            )
    else:
        op.create_index(
            "ix_document_chunks_fulltext",
            "document_chunks",
            [sa.text("to_tsvector('english'::regconfig, text)")],
            postgresql_using="gin",
        )


def _row() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
        sa.Column("metadata", sa.JSON(), nullable=False),
    ]


def _conversations() -> None:
    op.create_table(
        "conversations",
        *_row(),
        sa.Column("user", sa.Text()),
        sa.Column("session", sa.Text()),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text()),
        sa.Column("summary_through", sa.Uuid()),
        sa.Column("message_count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
    )
    op.create_index("ix_conversations_updated_at", "conversations", ["updated_at"])
    op.create_index("ix_conversations_user_updated_at", "conversations", ["user", "updated_at"])
    op.create_table(
        "messages",
        *_row(),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("citations", sa.JSON(), nullable=False),
        sa.Column("notices", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_messages"),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.id"], name="fk_messages_conversation_id_conversations"
        ),
        sa.UniqueConstraint("conversation_id", "position", name="uq_messages_conversation_id_position"),
    )


def _documents() -> None:
    op.create_table(
        "documents",
        *_row(),
        sa.Column("user", sa.Text()),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("mime", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("bucket", sa.String(63), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("chunks", sa.Integer(), nullable=False),
        sa.Column("embeddings", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("title", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_documents"),
        sa.UniqueConstraint("source", "revision", name="uq_documents_source_revision"),
    )
    op.create_index("ix_documents_object_key", "documents", ["object_key"])
    op.create_index("ix_documents_state", "documents", ["state"])
    op.create_table(
        "document_chunks",
        *_row(),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("parent", sa.Integer()),
        sa.Column("parent_id", sa.Uuid()),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("embedding", sa.LargeBinary()),
        sa.Column("fulltext_row", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_document_chunks"),
        sa.ForeignKeyConstraint(["document_id"], ["documents.id"], name="fk_document_chunks_document_id_documents"),
        sa.UniqueConstraint("document_id", "level", "position", name="uq_document_chunks_document_id_level_position"),
    )
    op.create_index("ix_document_chunks_parent_id", "document_chunks", ["parent_id"])
    op.create_index("ix_document_chunks_fulltext_row", "document_chunks", ["fulltext_row"], unique=True)
    without = sa.text("embedding IS NULL")
    op.create_index(
        "ix_document_chunks_unembedded", "document_chunks", ["id"], sqlite_where=without, postgresql_where=without
    )


def _people() -> None:
    op.create_table(
        "feedback",
        *_row(),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid()),
        sa.Column("user", sa.Text()),
        sa.Column("rating", sa.Integer()),
        sa.Column("comment", sa.Text()),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.id"], name="fk_feedback_conversation_id_conversations"
        ),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_feedback_message_id_messages"),
    )
    op.create_index("ix_feedback_conversation_id", "feedback", ["conversation_id"])
    op.create_index("ix_feedback_message_id", "feedback", ["message_id"])
    op.create_table(
        "user_preferences",
        *_row(),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_user_preferences"),
        sa.UniqueConstraint("user", "key", name="uq_user_preferences_user_key"),
    )
