"""Use the reranker engine: ``ports.Reranker``."""

from __future__ import annotations

from collections.abc import Sequence

from morgand.roles.process import EngineClient
from morgand.roles.reranker.wire import RerankerInfoReply, RerankerInfoRequest, ScoresReply, ScoresRequest

INFO_S = 5.0
GRACE_S = 3.0  # a mini-batch that began within the budget may end after it


class EngineReranker:
    """Scores from the engine behind ``client``."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    async def model(self) -> str:
        return (await self._client.call("info", RerankerInfoRequest(), RerankerInfoReply, deadline_s=INFO_S)).model

    async def scores(self, query: str, texts: Sequence[str], *, budget_s: float) -> list[float | None]:
        request = ScoresRequest(query, list(texts), budget_s * 1000)
        return (await self._client.call("scores", request, ScoresReply, deadline_s=budget_s + GRACE_S)).scores
