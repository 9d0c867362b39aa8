"""The values of a move, and the old file."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import make_url

from morgand.base.errors import Unavailable
from morgand.storage.models import Base
from morgand.storage.move.old_file import already_moved, note_of, set_aside, write_note
from morgand.storage.move.rows import SHAPES, TABLES, Raw, Shape, Sum
from morgand.storage.move.source import BATCH_BYTES, Source
from morgand.storage.move.target import with_certificates

DAY = date(2026, 3, 1)
PREFERENCE = next(shape for shape in SHAPES if shape.name == "user_preferences")
CHUNK = next(shape for shape in SHAPES if shape.name == "document_chunks")
TIME = "2026-03-01 12:00:00.000000"


def row(shape: Shape, **given: object) -> Raw:
    """As SQLite's driver gives it."""
    usual = {"id": "0" * 32, "created_at": TIME, "updated_at": TIME, "metadata": "{}"}
    return [{**usual, **given}.get(name) for name in shape.columns]


def test_every_table_moves_but_the_term() -> None:
    """A new table moves, or is named here as one that belongs to its database."""
    moved = {table.name for table in TABLES}
    assert moved == {"conversations", "messages", "documents", "document_chunks", "feedback", "user_preferences"}
    assert set(Base.metadata.tables) - moved == {"term"}


def test_parents_come_before_their_children() -> None:
    """A row is never written before what it refers to."""
    order = {table.name: place for place, table in enumerate(TABLES)}
    referred = [(table.name, key.column.table.name) for table in TABLES for key in table.foreign_keys]
    assert len(referred) == 4
    assert all(order[parent] < order[child] for child, parent in referred)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_every_column_counts(shape: Shape) -> None:
    """A value in one more column is another digest, whichever column it is."""
    values = {"embedding": b"x", "confidence": 0.5}
    empty = shape.digest([None] * len(shape.columns))
    digests = {shape.digest([None] * at + [values.get(name, "1")] + [None] * (len(shape.columns) - at - 1))
               for at, name in enumerate(shape.columns)}  # fmt: skip
    assert len(digests | {empty}) == len(shape.columns) + 1


def test_text_is_not_mistaken_for_its_neighbour_or_for_nothing() -> None:
    """What moves from one column into the next is a difference, and so is a dash instead of NULL."""
    shifted = [("a,1:b", "c"), ("a", "b,1:c"), ("-", None), (None, "-"), ("", None), (None, None)]
    assert len({PREFERENCE.digest(row(PREFERENCE, user=user, key=key)) for user, key in shifted}) == len(shifted)


@pytest.mark.parametrize(("stored", "text"), [(5, "5"), (1.5, "1.5"), ('"5"', '"5"'), ("null", "null"), ("[1]", "[1]")])
def test_a_lone_number_in_a_json_column_is_json_again(stored: object, text: str) -> None:
    """SQLite turns it into a number of its own."""
    moved = PREFERENCE.values(row(PREFERENCE, value=stored, confidence=0.5))
    assert moved[PREFERENCE.columns.index("value")] == text
    json.loads(text)


def test_values_are_what_postgresql_takes() -> None:
    """UUIDs, times with their zone, bytes; no NUL in a text."""
    moved = dict(zip(CHUNK.columns, CHUNK.values(row(CHUNK, text="a\x00b", embedding=b"\x00\xff")), strict=True))
    assert moved["id"] == UUID(int=0)
    assert moved["created_at"] == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert (moved["text"], moved["embedding"], moved["deleted_at"]) == ("a\ufffdb", b"\x00\xff", None)
    assert CHUNK.digest(row(CHUNK, text="a\x00b")) == CHUNK.digest(row(CHUNK, text="a\ufffdb"))


def test_a_checksum_does_not_depend_on_order_and_knows_doubles() -> None:
    """The same rows in any batches are the same sum; a row twice is not a row less."""
    one, two = "f" * 32, "8" * 32
    assert Sum().plus([one, two]) == Sum().plus([two]).plus([one])
    assert len({Sum().plus(rows) for rows in ([], [one], [two], [one, one], [one, two])}) == 5


def test_a_batch_is_bounded_in_bytes(tmp_path: Path) -> None:
    """However large the rows are, and a row larger than that comes alone."""
    with closing(sqlite3.connect(tmp_path / "f")) as connection, connection:
        connection.execute(f"CREATE TABLE user_preferences ({PREFERENCE.listed})")
        sizes = [10, BATCH_BYTES // 3, BATCH_BYTES // 3, BATCH_BYTES // 3, 2 * BATCH_BYTES, 10]
        marks = ", ".join("?" * len(PREFERENCE.columns))
        for number, length in enumerate(sizes):
            values = row(PREFERENCE, id=f"{number:032x}", value="x" * length)
            connection.execute(f"INSERT INTO user_preferences VALUES ({marks})", values)
    with closing(Source(tmp_path / "f")) as source:
        assert [len(batch) for batch in source.batches(PREFERENCE)] == [4, 1, 1]
        assert source.ids(PREFERENCE, None, f"{1:032x}") == {f"{0:032x}", f"{1:032x}"}
        assert source.ids(PREFERENCE, f"{4:032x}", f"{9:032x}") == {f"{5:032x}"}


def make(file: Path) -> sqlite3.Connection:
    """A file with a row in its log, which is open and not written back."""
    connection = sqlite3.connect(file, isolation_level=None)
    for command in ("PRAGMA journal_mode=WAL", "PRAGMA wal_autocheckpoint=0", "CREATE TABLE t (v)"):
        connection.execute(command)
    connection.execute("INSERT INTO t VALUES (42)")
    return connection


def test_the_file_is_kept_whole_under_a_name_of_its_day(tmp_path: Path) -> None:
    """Its log is in it, and a second one of the day does not take its place; one that is gone is no error."""
    file = tmp_path / "morgan.db"
    for name in ("morgan.db.moved-20260301", "morgan.db.moved-20260301-2"):
        make(file).close()
        assert set_aside(file, DAY) == tmp_path / name
        with closing(sqlite3.connect(tmp_path / name)) as kept:
            assert kept.execute("SELECT v FROM t").fetchall() == [(42,)]
    assert set_aside(file, DAY) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "morgan.db.moved-20260301",
        "morgan.db.moved-20260301-2",
    ]


def test_a_file_that_is_in_use_stays_until_it_is_not(tmp_path: Path) -> None:
    """Renaming it would part it from its log."""
    file = tmp_path / "morgan.db"
    with closing(make(file)) as busy:
        busy.execute("BEGIN")
        busy.execute("SELECT v FROM t").fetchone()
        with pytest.raises(Unavailable, match="another program"):
            set_aside(file, DAY, busy_s=0.1)
        assert file.exists()
    assert set_aside(file, DAY) is not None


def test_a_file_is_known_to_be_moved_by_the_commit_alone(tmp_path: Path) -> None:
    """Only when the cluster committed the very move that the file was prepared for."""
    file = tmp_path / "morgan.db"
    assert not already_moved(file, "cluster move 1")  # nothing is known of this file
    write_note(file, "cluster move 1")
    assert not already_moved(file, None)  # it was not committed
    assert not already_moved(file, "cluster move 2")
    assert already_moved(file, "cluster move 1")
    assert note_of(file).stat().st_mode & 0o077 == 0


def test_the_way_to_postgresql_is_verified_by_files() -> None:
    """Both sides, and the server's name."""
    url = with_certificates("postgresql+asyncpg://m@localhost:5434/m", ca="/c a", certificate="/b", key="/k")
    assert make_url(url).query == {
        "sslmode": "verify-full", "sslrootcert": "/c a", "sslcert": "/b", "sslkey": "/k"
    }  # fmt: skip
