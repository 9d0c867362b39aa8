"""Rows on their way from SQLite to PostgreSQL: a digest that both sides compute alike, and values for PostgreSQL.

Pure. A row's digest is the MD5 of its columns, free text as ``LENGTH:TEXT`` and NULL as ``-``: against mishaps, not
against forgers. PostgreSQL computes it where the rows are, so comparing moves 64 bytes a row and no text.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Column, Double, Integer, LargeBinary, Table, Uuid

from morgand.storage.models import Base, Row, UtcTime, clean

# parents before their children; what is not of class Row describes its own database and stays there
TABLES: tuple[Table, ...] = tuple(
    table
    for table in Base.metadata.sorted_tables
    if any(mapper.local_table is table and issubclass(mapper.class_, Row) for mapper in Base.registry.mappers)
)
CHECKSUM_BITS = 64

Raw = Sequence[Any]  # a row as the driver of SQLite gives it


@dataclass(frozen=True, slots=True)
class ColumnKind:
    """A type of column: ``said`` and ``sql`` are its canonical text, ``value`` is what PostgreSQL's driver takes.

    Free text is told with its length: else what moves from one column into the next would look the same.
    """

    said: Callable[[Any], str]
    value: Callable[[Any], Any]
    sql: str  # of a column {0}


def _told(text: str) -> str:
    return f"{len(text)}:{text}"


def _json_text(stored: Any) -> str:
    # the affinity of a JSON column in SQLite is NUMERIC: a lone number comes back as one
    return stored if isinstance(stored, str) else json.dumps(stored)


def _text(stored: str) -> str:
    return clean(stored) if "\x00" in stored else stored


def _told_json(stored: Any) -> str:
    return _told(_json_text(stored))


def _told_text(stored: str) -> str:
    return _told(_text(stored))


def _moment(stored: str) -> datetime:
    return datetime.fromisoformat(stored).replace(tzinfo=UTC)


def _same(stored: Any) -> Any:
    return stored


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _double(stored: float) -> str:
    return struct.pack(">d", stored).hex()


ID = ColumnKind(_same, UUID, "encode(uuid_send({0}), 'hex')")
TIME = ColumnKind(_same, _moment, "to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')")
DOCUMENT = ColumnKind(_told_json, _json_text, "length({0}::text) || ':' || {0}::text")
BYTES = ColumnKind(_md5, _same, "md5({0})")
DOUBLE = ColumnKind(_double, float, "encode(float8send({0}), 'hex')")
NUMBER = ColumnKind(str, _same, "{0}::text")
TEXT = ColumnKind(_told_text, _text, "length({0}) || ':' || {0}")

_KINDS: tuple[tuple[type[Any], ColumnKind], ...] = (
    (Uuid, ID), (UtcTime, TIME), (JSON, DOCUMENT), (LargeBinary, BYTES), (Double, DOUBLE), (Integer, NUMBER),
)  # fmt: skip


def kind_of(column: Column[Any]) -> ColumnKind:
    return next((kind for type_, kind in _KINDS if isinstance(column.type, type_)), TEXT)


class Shape:
    """What is to be known of a table to move its rows. Its first column is its id."""

    def __init__(self, table: Table) -> None:
        columns = sorted(table.columns, key=lambda column: not column.primary_key)
        assert [column.name for column in columns if column.primary_key] == ["id"]
        self.name = str(table.name)
        self.columns = tuple(str(column.name) for column in columns)
        self.listed = ", ".join(f'"{name}"' for name in self.columns)
        self._kinds = tuple(kind_of(column) for column in columns)
        self._said = tuple(kind.said for kind in self._kinds)
        self._values = tuple(kind.value for kind in self._kinds)

    def digest(self, raw: Raw) -> str:
        """32 hexadecimal digits."""
        parts = ["-" if stored is None else said(stored) for said, stored in zip(self._said, raw, strict=True)]
        return _md5(",".join(parts).encode())

    @property
    def digest_sql(self) -> str:
        """The same in PostgreSQL."""
        said = [kind.sql.format(f'"{name}"') for name, kind in zip(self.columns, self._kinds, strict=True)]
        return "md5(" + " || ',' || ".join(f"coalesce({one}, '-')" for one in said) + ")"

    def values(self, raw: Raw) -> tuple[Any, ...]:
        """Raises ValueError for what the column cannot hold."""
        return tuple(None if stored is None else value(stored) for value, stored in zip(self._values, raw, strict=True))


SHAPES = tuple(Shape(table) for table in TABLES)


def size(raw: Raw) -> int:
    """About how many bytes of memory a row takes."""
    return sum(len(stored) if isinstance(stored, str | bytes) else 16 for stored in raw)


@dataclass(frozen=True, slots=True)
class Sum:
    """Rows of a table, and a checksum of their digests that does not depend on their order."""

    rows: int = 0
    checksum: int = 0

    def plus(self, digests: Sequence[str]) -> Sum:
        total = self.checksum + sum(int(digest[:16], 16) for digest in digests)
        return Sum(self.rows + len(digests), total % (1 << CHECKSUM_BITS))
