"""The old SQLite file after a move: how to know it, and where it is kept. Blocking, none of it for the event loop."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import date
from pathlib import Path

from morgand.base import files
from morgand.base.errors import MorganError, StorageFull, Unavailable

BUSY_S = 5.0


def note_of(file: Path) -> Path:
    """Where it is written down to what move a file belongs."""
    return file.with_name(file.name + ".move")


def write_note(file: Path, marker: str) -> None:
    """Before the change is committed, durably. Raises StorageFull."""
    files.write_private(note_of(file), marker.encode())


def already_moved(file: Path, committed: str | None) -> bool:
    """Whether this file was moved, and must not be served any more; then ``set_aside`` it, if it is still there.

    ``committed`` is the marker of the move that the cluster's store says was done; None if none was. A file with the
    note of another move, or without one, is not that move's.
    """
    try:
        return committed is not None and note_of(file).read_bytes() == committed.encode()
    except FileNotFoundError:
        return False


def set_aside(file: Path, day: date, *, busy_s: float = BUSY_S) -> Path | None:
    """Keep the file as ``NAME.moved-YYYYMMDD``, whole in itself; returns where, None if it is not there any more.

    Raises Unavailable while another program has it open, StorageFull.
    """
    if not file.exists():
        return None
    try:
        _make_whole(file, busy_s)
        kept = _free_name(file, day)
        file.rename(kept)
        files.sync(file.parent)
    except OSError as err:
        raise StorageFull(f"{file} cannot be set aside: {err.strerror}.", remedy="Check the data directory.") from err
    return kept


def _make_whole(file: Path, busy_s: float) -> None:
    """Bring the write-ahead log into the file, and end it."""
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=busy_s, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError as err:
        raise Unavailable(f"{file} was moved, but another program has it open ({err}).") from err
    except sqlite3.DatabaseError as err:
        raise MorganError(f"{file} is damaged ({err}).") from err


def _free_name(file: Path, day: date) -> Path:
    name = f"{file.name}.moved-{day:%Y%m%d}"
    number = 1
    while (kept := file.with_name(name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return kept
