"""The epoch of whoever writes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "pre_0002"
down_revision = "pre_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    term = op.create_table(
        "term",
        sa.Column("id", sa.SmallInteger(), nullable=False, autoincrement=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_term"),
    )
    op.bulk_insert(term, [{"id": 1, "epoch": 0}])
