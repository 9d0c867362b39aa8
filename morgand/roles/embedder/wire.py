"""What the embedder engine and its client say to each other."""

from __future__ import annotations

from typing import Literal

import msgspec


class EmbedRequest(msgspec.Struct):
    texts: list[str]
    kind: Literal["query", "passage"]


class EmbedReply(msgspec.Struct):
    """``vectors``: little-endian float32, unit length, one per text in order."""

    dimension: int
    vectors: list[bytes]


class EmbedderInfoRequest(msgspec.Struct):
    pass


class EmbedderInfoReply(msgspec.Struct):
    model: str
    dimension: int
    max_tokens: int
