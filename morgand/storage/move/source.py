"""The SQLite file as the copier reads it: one snapshot at a time, in batches of bounded memory. Blocking."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from morgand.base.errors import MorganError, Unavailable
from morgand.storage.move.rows import Raw, Shape, size

BATCH_ROWS = 2_000
BATCH_BYTES = 4 * 1024 * 1024
BUSY_S = 5.0


class Source:
    """Reads and never writes. Calls may come from any thread, one at a time."""

    def __init__(self, file: Path) -> None:
        """Raises Unavailable."""
        with _translated():
            self._connection = sqlite3.connect(
                f"file:{quote(str(file))}?mode=ro", uri=True, check_same_thread=False, isolation_level=None,
                timeout=BUSY_S,
            )  # fmt: skip

    def close(self) -> None:
        self._connection.close()

    def look(self) -> None:
        """See what is stored now, and nothing that comes later, until ``forget``: all tables as of one moment."""
        with _translated():
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()

    def forget(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def revisions(self) -> set[str]:
        with _translated():
            return {row[0] for row in self._connection.execute("SELECT version_num FROM alembic_version")}

    def count(self, shape: Shape) -> int:
        with _translated():
            found = self._connection.execute(f'SELECT count(*) FROM "{shape.name}"').fetchone()  # noqa: S608 - a name of ours
        return int(found[0])

    def ids(self, shape: Shape, low: str | None, high: str) -> set[str]:
        """Those over ``low`` (None: all) up to ``high``, 32 hexadecimal digits each."""
        query = f'SELECT id FROM "{shape.name}" WHERE id <= ? AND id > ?'  # noqa: S608 - a name of ours
        with _translated():
            return {row[0] for row in self._connection.execute(query, (high, low or ""))}

    def batches(self, shape: Shape) -> Iterator[list[Raw]]:
        """All rows by id; a batch is at most a row larger than ``BATCH_BYTES``, and never empty."""
        with _translated():
            cursor = self._connection.execute(f'SELECT {shape.listed} FROM "{shape.name}" ORDER BY id')  # noqa: S608 - names of ours
            batch: list[Raw] = []
            taken = 0
            for row in cursor:
                batch.append(row)
                taken += size(row)
                if len(batch) == BATCH_ROWS or taken > BATCH_BYTES:
                    yield batch
                    batch, taken = [], 0
            if batch:
                yield batch


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as err:
        raise Unavailable(f"The database file cannot be read ({err}).") from err
    except sqlite3.DatabaseError as err:
        raise MorganError(
            f"The database file is damaged ({err}).",
            remedy="Stop morgand, keep a copy of the data directory, and restore the database from a backup.",
        ) from err
