"""The API that hosts speak to each other: calls of ports, over TLS with a certificate on both sides.

Nothing is answered to who has no certificate of a present member; with a certificate, a call is answered only by who
holds the role in the very epoch that the caller goes by.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from morgand.errors import Fenced, InvalidInput, MorganError, Overloaded, Unauthorized, Unavailable
from morgand.failure import to_wire
from morgand.peers import wire
from morgand.peers.client import BLOCK, EPOCH, MAX_FILE_BYTES
from morgand.peers.wire import Export
from morgand.ports import Objects
from morgand.security.trust import peer_of
from morgand.state import Assignment

log = logging.getLogger("morgand.peer")

MAX_BODY_BYTES = 512 * 1024 * 1024
AT_ONCE = 200  # calls served at the same time
PEER = "/peer/v1/"
ASKER = web.RequestKey("asker", str)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PeerApi:
    """``exports`` by the name in the path. ``member``: whether a host id belongs to the cluster now."""

    def __init__(
        self, exports: Mapping[str, Export], *, held: Callable[[str], Assignment | None],
        member: Callable[[str], bool], spool: Path, open_routes: Sequence[web.RouteDef] = (),
        member_routes: Sequence[web.RouteDef] = (),
    ) -> None:  # fmt: skip
        self._exports, self._held, self._member, self._spool = exports, held, member, spool
        self._open_routes, self._member_routes = open_routes, member_routes
        self._places = asyncio.Semaphore(AT_ONCE)

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._gate()], client_max_size=MAX_BODY_BYTES)
        app.on_response_prepare.append(_say_nothing_of_ourselves)
        app.add_routes([
            web.get(PEER + "alive", self._alive),
            web.put(PEER + "{port}/files", self._put_file),
            web.get(PEER + "{port}/files/{key:.+}", self._get_file),
            *self._member_routes,
            web.post(PEER + "{port}/{method}", self._call),
            *self._open_routes,
        ])  # fmt: skip
        return app

    def _gate(self) -> Any:
        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                if request.path.startswith(PEER):
                    self._admit(request)
                return await handler(request)
            except Unauthorized as err:
                return web.Response(status=err.status)  # a stranger learns nothing
            except MorganError as err:
                return web.Response(status=err.status, body=to_wire(err))
            except web.HTTPException as err:
                return web.Response(status=err.status)
            except Exception:  # supervisor of all handlers: a fault of ours costs one request, with a trace
                log.exception("request of a host failed", extra={"path": request.path})
                return web.Response(status=500, body=to_wire(MorganError()))

        return gate

    def _admit(self, request: web.Request) -> None:
        found = peer_of(request.transport.get_extra_info("ssl_object") if request.transport else None)
        if found is None or not self._member(found.host):
            raise Unauthorized("This is for members of the cluster.")
        request[ASKER] = found.host

    async def _alive(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _call(self, request: web.Request) -> web.StreamResponse:
        export = self._export(request)
        signature = wire.signature_of(export.protocol, request.match_info["method"])
        arguments = wire.unpack_arguments(signature, await request.read())
        if self._places.locked():
            raise Overloaded("This host serves as many calls as it can.", retry_after_s=1.0)
        async with self._places:
            found = getattr(export.implementation, signature.method)(**arguments)
            if signature.streamed:
                return await _streamed(request, cast("AsyncIterator[Any]", found))
            return web.Response(body=wire.pack(await found))

    async def _put_file(self, request: web.Request) -> web.Response:
        objects: Objects = self._export(request).implementation
        with tempfile.NamedTemporaryFile(dir=self._spool) as file:
            size = 0
            async for block in request.content.iter_chunked(BLOCK):
                size += len(block)
                if size > MAX_FILE_BYTES:
                    raise InvalidInput("The file is too large.")
                await asyncio.to_thread(file.write, block)
            await asyncio.to_thread(file.flush)
            return web.Response(text=await objects.put_file(Path(file.name)))

    async def _get_file(self, request: web.Request) -> web.StreamResponse:
        objects: Objects = self._export(request).implementation
        return web.FileResponse(await objects.path(request.match_info["key"]), chunk_size=BLOCK)

    def _export(self, request: web.Request) -> Export:
        """Raises InvalidInput for an unknown port, Fenced or Unavailable when the epochs differ."""
        name = request.match_info["port"]
        export = self._exports.get(name)
        asked = request.headers.get(EPOCH, "")
        if export is None or not asked.isdigit():
            raise InvalidInput(f"There is no port '{name}', or no epoch was given.")
        refusal = refuse(export.role, self._held(export.role), int(asked))
        if refusal is not None:
            raise refusal
        return export


async def _say_nothing_of_ourselves(_: web.Request, response: web.StreamResponse) -> None:
    """Which program and version answers is nobody's business."""
    response.headers.popall("Server", None)


def refuse(role: str, own: Assignment | None, asked_epoch: int) -> MorganError | None:
    """Why a call made under ``asked_epoch`` is not answered here, or None."""
    if own is None:
        return Fenced(f"This host does not hold {role}.")
    if asked_epoch < own.epoch:
        return Fenced(f"Epoch {asked_epoch} of {role} has ended: it is {own.epoch} now.")
    if asked_epoch > own.epoch:
        return Unavailable(f"This host has not heard of epoch {asked_epoch} of {role} yet.", retry_after_s=0.2)
    return None


async def _streamed(request: web.Request, items: AsyncIterator[Any]) -> web.StreamResponse:
    """The first item is waited for before anything is sent, so that a failure until then has its status."""
    async with aclosing(cast("Any", items)) as stream:
        try:
            first: bytes | None = wire.frame(wire.ITEM, wire.pack(await anext(stream)))
        except StopAsyncIteration:
            first = None
        response = web.StreamResponse()
        await response.prepare(request)
        if first is not None:
            await response.write(first)
            try:
                async for item in stream:
                    await response.write(wire.frame(wire.ITEM, wire.pack(item)))
            except MorganError as err:
                await response.write(wire.frame(wire.ERROR, to_wire(err)))
                return response
        await response.write(wire.frame(wire.END))
        return response
