"""Compares a real database with the models."""

from __future__ import annotations

import warnings
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from morgand.storage.database import Database
from morgand.storage.migrate import configuration, described
from morgand.storage.models import Base


def _compare(connection: Connection) -> list[Any]:
    options = {"include_name": lambda name, kind, _parents: described(name, kind), "compare_type": True}
    with warnings.catch_warnings():
        # the full-text index is for PostgreSQL only, and compared there
        warnings.filterwarnings("ignore", message="autogenerate skipping .* 'ix_document_chunks_fulltext'")
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))


async def differences(database: Database) -> list[Any]:
    """What Alembic would write into a new migration."""
    async with database.change_schema() as connection:
        return await connection.run_sync(_compare)


def heads_without_a_phase() -> list[str]:
    script = ScriptDirectory.from_config(configuration())
    heads = script.get_revisions(script.get_heads())
    return [head.revision for head in heads if len(head.branch_labels & {"pre", "post"}) != 1]
