"""Use the embedder engine: ``ports.Embedder``."""

from __future__ import annotations

from collections.abc import Sequence

from morgand.roles.embedder.wire import EmbedderInfoReply, EmbedderInfoRequest, EmbedReply, EmbedRequest
from morgand.roles.process import EngineClient

QUERY_S = 5.0
PASSAGE_S = 2.0  # per text, on the slowest machine that is still useful
FIXED_S = 20.0
REQUEST_TEXTS = 128


class EngineEmbedder:
    """Embeddings from the engine behind ``client``."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    async def model(self) -> str:
        return (await self._client.call("info", EmbedderInfoRequest(), EmbedderInfoReply, deadline_s=QUERY_S)).model

    async def embed_query(self, text: str) -> bytes:
        request = EmbedRequest([text], "query")
        return (await self._client.call("embed", request, EmbedReply, deadline_s=QUERY_S)).vectors[0]

    async def embed_passages(self, texts: Sequence[str]) -> list[bytes]:
        vectors: list[bytes] = []
        for first in range(0, len(texts), REQUEST_TEXTS):
            part = list(texts[first : first + REQUEST_TEXTS])
            deadline_s = FIXED_S + PASSAGE_S * len(part)
            reply = await self._client.call("embed", EmbedRequest(part, "passage"), EmbedReply, deadline_s=deadline_s)
            vectors += reply.vectors
        return vectors
