"""Search: ranked passages, no LLM."""

from __future__ import annotations

from aiohttp import web

from morgand.api import schema, views
from morgand.api.body import read_struct
from morgand.api.limits import Rate
from morgand.api.routes import ApiRoute, json
from morgand.api.service import ApiContext
from morgand.assistant import degrade
from morgand.base import staleness


class SearchRoutes:
    def __init__(self, service: ApiContext) -> None:
        self._service = service

    def routes(self) -> list[ApiRoute]:
        return [
            ApiRoute("POST", "/v1/search", self.search, "Search the documents", "documents", schema.SearchReply,
                  schema.SearchRequest, rate=Rate.SEARCH, errors=(503,), may_be_stale=True),
        ]  # fmt: skip

    async def search(self, request: web.Request) -> web.Response:
        asked = await read_struct(request, schema.SearchRequest, body_mb=self._service.limits().body_mb)
        found = await self._service.backend.assistant.search(asked.text, limit=asked.limit, rerank=asked.rerank)
        notices = [*found.notices, *([degrade.NOTICE_STALE] if staleness.stale() else [])]
        return json(schema.SearchReply([views.passage(one) for one in found.passages], notices))
