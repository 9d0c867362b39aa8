"""What the vector index engine and its client say to each other. Levels go by their names."""

from __future__ import annotations

import msgspec


class WirePoint(msgspec.Struct, array_like=True):
    """One chunk. ``embedding``: little-endian float32 of the index's size, or None."""

    chunk: str
    document: str
    level: str
    coarse: str
    medium: str | None
    text: str
    embedding: bytes | None


class WireHit(msgspec.Struct, array_like=True):
    chunk: str
    document: str
    coarse: str
    medium: str | None
    score: float


class UpsertRequest(msgspec.Struct):
    points: list[WirePoint]


class DeleteRequest(msgspec.Struct):
    documents: list[str]


class IndexSearchRequest(msgspec.Struct):
    """``limit``: hits per leg and level."""

    text: str
    embedding: bytes | None
    limit: int


class IndexSearchReply(msgspec.Struct):
    """Hits by level, best first."""

    dense: dict[str, list[WireHit]]
    keyword: dict[str, list[WireHit]]


class CountsRequest(msgspec.Struct):
    pass


class CountsReply(msgspec.Struct):
    counts: dict[str, int]


class IndexInfoRequest(msgspec.Struct):
    pass


class IndexInfoReply(msgspec.Struct):
    """``points`` by level; ``set_aside``: folders of an index that could not be read, kept for inspection."""

    size: int
    points: dict[str, int]
    set_aside: list[str]


class IndexDone(msgspec.Struct):
    pass
