"""What a route is: one value that the application serves and the OpenAPI file describes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web

from morgand.api.limits import Rate

STALE = "X-Morgan-Stale"  # a header, only there when it is so
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """``path`` has its variables in braces. ``errors`` are the statuses beyond those every route shares."""

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    reply: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    status: int = 200
    errors: tuple[int, ...] = ()
    rate: Rate | None = None
    open: bool = False  # answers without a key
    stream: bool = False  # answers server-sent events when asked to
    content_type: str = "application/json"
    also: tuple[tuple[int, type[msgspec.Struct]], ...] = ()  # replies of further statuses that are no errors
    openai: bool = False  # errors in OpenAI's shape
    may_be_stale: bool = False  # may be answered from a copy of the database; the answer says so in ``STALE``

    @property
    def variables(self) -> list[str]:
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]


def json(reply: msgspec.Struct, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(reply), status=status, content_type="application/json")
