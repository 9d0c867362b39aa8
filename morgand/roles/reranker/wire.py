"""What the reranker engine and its client say to each other."""

from __future__ import annotations

import msgspec


class ScoresRequest(msgspec.Struct):
    """``texts`` best candidates first; ``budget_ms`` is counted from arrival."""

    query: str
    texts: list[str]
    budget_ms: float


class ScoresReply(msgspec.Struct):
    """One score per text in order; None where the budget was used up."""

    scores: list[float | None]


class RerankerInfoRequest(msgspec.Struct):
    pass


class RerankerInfoReply(msgspec.Struct):
    model: str
