"""What this host keeps until the database can be reached: to be seen, and discarded when it was refused."""

from __future__ import annotations

from aiohttp import web

from morgand.api import schema
from morgand.api.body import read_query
from morgand.api.routes import ApiRoute, json
from morgand.api.service import ApiContext
from morgand.storage.outbox import OutboxEntry
from morgand.storage.sealed import DamagedFile


class OutboxRoutes:
    def __init__(self, service: ApiContext) -> None:
        self._backend = service.backend

    def routes(self) -> list[ApiRoute]:
        tag = "conversations"
        return [
            ApiRoute("GET", "/v1/outbox", self.list, "List the messages that wait on this host", tag,
                  schema.OutboxReply, query=schema.Page),
            ApiRoute("DELETE", "/v1/outbox/{id}", self.discard, "Discard a message that was refused", tag,
                  schema.Deleted, errors=(404, 409, 507)),
        ]  # fmt: skip

    async def list(self, request: web.Request) -> web.Response:
        page, outbox = read_query(request, schema.Page), self._backend.outbox
        views = [await self._view(one) for one in outbox.all()[page.offset : page.offset + page.limit]]
        return json(schema.OutboxReply(outbox.host, [one for one in views if one is not None]))

    async def discard(self, request: web.Request) -> web.Response:
        turn = request.match_info["id"].lower()
        await self._backend.outbox.discard(turn)
        return json(schema.Deleted(turn))

    async def _view(self, entry: OutboxEntry) -> schema.KeptView | None:
        """None for one that is damaged: it is set aside, and ``status`` says so."""
        try:
            kept = await self._backend.outbox.read(entry)
        except DamagedFile:
            return None
        return schema.KeptView(
            id=entry.turn,
            conversation=entry.place,
            text=kept.text,
            created=kept.created,
            state="refused" if entry.refused else "waiting",
            reason=entry.reason,
        )
