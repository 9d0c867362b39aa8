"""Where a document came from, and since when another one replaces it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "pre_0003"
down_revision = "pre_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("machine", "machine_name"):
        op.add_column("documents", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    op.add_column("documents", sa.Column("replaced_at", sa.DateTime(timezone=True)))
