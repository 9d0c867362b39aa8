"""Use the vector index engine: ``ports.Vectors``."""

from __future__ import annotations

from collections.abc import Sequence

from morgand.roles.process import EngineClient
from morgand.roles.vectors.wire import (
    CountsReply,
    CountsRequest,
    DeleteRequest,
    IndexDone,
    IndexInfoReply,
    IndexInfoRequest,
    IndexSearchReply,
    IndexSearchRequest,
    UpsertRequest,
    WireHit,
    WirePoint,
)
from morgand.state.assistant import Level
from morgand.state.ports import SearchLegs, VectorHit, VectorPoint

SEARCH_S = 5.0
WRITE_S = 60.0  # a disk that is busy with something else
REQUEST_POINTS = 512
REQUEST_DOCUMENTS = 1000


class EngineVectors:
    """The index behind ``client``."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    async def upsert(self, points: Sequence[VectorPoint]) -> None:
        for first in range(0, len(points), REQUEST_POINTS):
            part = [_wire(point) for point in points[first : first + REQUEST_POINTS]]
            await self._client.call("upsert", UpsertRequest(part), IndexDone, deadline_s=WRITE_S)

    async def delete_documents(self, documents: Sequence[str]) -> None:
        for first in range(0, len(documents), REQUEST_DOCUMENTS):
            part = list(documents[first : first + REQUEST_DOCUMENTS])
            await self._client.call("delete", DeleteRequest(part), IndexDone, deadline_s=WRITE_S)

    async def search(self, text: str, embedding: bytes | None, *, limit: int) -> SearchLegs:
        request = IndexSearchRequest(text, embedding, limit)
        reply = await self._client.call("search", request, IndexSearchReply, deadline_s=SEARCH_S)
        return SearchLegs(dense=_leg(reply.dense), keyword=_leg(reply.keyword))

    async def counts(self) -> dict[str, int]:
        return (await self._client.call("counts", CountsRequest(), CountsReply, deadline_s=WRITE_S)).counts

    async def info(self) -> IndexInfoReply:
        return await self._client.call("info", IndexInfoRequest(), IndexInfoReply, deadline_s=SEARCH_S)


def _wire(point: VectorPoint) -> WirePoint:
    return WirePoint(
        point.chunk, point.document, point.level.value, point.coarse, point.medium, point.text, point.embedding
    )


def _leg(levels: dict[str, list[WireHit]]) -> dict[Level, list[VectorHit]]:
    return {
        Level(name): [VectorHit(h.chunk, h.document, Level(name), h.coarse, h.medium, h.score) for h in hits]
        for name, hits in levels.items()
    }
