"""Machines are told apart, and earlier versions kept, from here on: no program is left that would confuse them.

What says so is that this migration was applied (``intake.all_know``). It makes the index that finds versions.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "post_0001"
down_revision = None
branch_labels = ("post",)
depends_on = None


def upgrade() -> None:
    # there are no versions yet, so the index is empty and made in one look at the table, which holds no text
    replaced = sa.text("replaced_at IS NOT NULL")
    op.create_index(
        "ix_documents_replaced_at", "documents", ["replaced_at"], sqlite_where=replaced, postgresql_where=replaced
    )
