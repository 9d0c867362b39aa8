"""Alembic's way in: works on the connection that the caller opened, in its transaction or in one for each migration."""

from __future__ import annotations

from typing import Any

from alembic import context

from morgand.storage.migrate import described
from morgand.storage.models import Base


def include_name(name: str | None, kind: str, _parents: Any) -> bool:
    return described(name, kind)


connection = context.config.attributes[
    "connection"
]  # set by morgand.storage.migrate; there is no other way to run this
context.configure(
    connection=connection, target_metadata=Base.metadata, include_name=include_name, transaction_per_migration=True
)
with context.begin_transaction():
    context.run_migrations()
