"""What the daemon and the process that moves its database say to each other: lines of JSON, the options first."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Word(StrEnum):
    """What the daemon says."""

    HELD = "held"  # nobody writes to SQLite
    COMMITTED = "committed"


class Options(msgspec.Struct):
    """``file`` is SQLite's, ``url`` PostgreSQL's."""

    file: str
    url: str
    marker: str


class Told(msgspec.Struct, tag="told"):
    """Progress; the rows of a table, done and in all."""

    stage: str
    table: str
    rows: int
    of: int


class Ready(msgspec.Struct, tag="ready"):
    """What is left to copy is short enough to do under a hold."""


class Verified(msgspec.Struct, tag="verified"):
    """Both databases hold the same: rows by table."""

    rows: dict[str, int]


class MoveDone(msgspec.Struct, tag="done"):
    """PostgreSQL knows that it is in charge."""


class Failed(msgspec.Struct, tag="failed"):
    """The move was given up."""

    error: bytes  # as of ``failure``


Said = Told | Ready | Verified | MoveDone | Failed
