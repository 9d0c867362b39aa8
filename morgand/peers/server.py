"""The API that hosts speak to each other: calls of ports, over TLS with a certificate on both sides.

Nothing is answered to who has no certificate of a present member; with a certificate, a call is answered only by who
holds the role in the very epoch that the caller goes by.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from aiohttp import web

from morgand.base.error_wire import to_wire
from morgand.base.errors import (
    EngineError,
    Fenced,
    InvalidInput,
    MorganError,
    Overloaded,
    StorageFull,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from morgand.peers import wire
from morgand.peers.client import BLOCK, EPOCH, MAX_FILE_BYTES
from morgand.peers.route import Acting, acting
from morgand.peers.wire import Export
from morgand.security.trust import peer_of
from morgand.state.ports import ObjectFiles
from morgand.state.roles import Assignment

log = logging.getLogger("morgand.peer")

MAX_BODY_BYTES = 512 * 1024 * 1024
AT_ONCE = 200  # calls served at the same time
READ_S = 120.0  # until a call's arguments are here
HEARD_S = 0.5  # until this host has heard of its part what its caller has heard
MOVE_S = 30.0  # until a caller takes one more piece of an answer, or sends one more of a file
PEER = "/peer/v1/"
FREE = "Nothing was half-written. Free some space on its disk, or make it writable, and try again."
ASKER = web.RequestKey("asker", str)

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PeerServer:
    """``exports`` by the name in the path. ``name``: of this host, for people. ``member``: whether a host id belongs to
    the cluster now."""

    def __init__(
        self, exports: Mapping[str, Export], *, name: str, held: Callable[[str], Assignment | None], acting: Acting,
        member: Callable[[str], bool], spool: Path, open_routes: Sequence[web.RouteDef] = (),
        member_routes: Sequence[web.RouteDef] = (), body_bytes: int = MAX_BODY_BYTES,
        file_bytes: int = MAX_FILE_BYTES, move_s: float = MOVE_S,
    ) -> None:  # fmt: skip
        self._exports, self._name, self._held, self._member, self._spool = exports, name, held, member, spool
        self._body_bytes, self._file_bytes, self._move_s = body_bytes, file_bytes, move_s
        self._acting = acting
        self._open_routes, self._member_routes = open_routes, member_routes
        self._serving = 0

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._gate()], client_max_size=self._body_bytes)
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
        open_paths = {route.path for route in self._open_routes if not route.path.startswith(PEER)}

        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            resource = request.match_info.route.resource
            try:
                if resource is None or resource.canonical not in open_paths:
                    self._admit(request)
                return await handler(request)
            except Unauthorized as err:
                return web.Response(status=err.status)  # a stranger learns nothing
            except MorganError as err:
                return web.Response(status=err.status, body=to_wire(err, at=self._name))
            except web.HTTPRequestEntityTooLarge:
                too_large = TooLarge(f"A call takes {self._body_bytes} bytes at most.")
                return web.Response(status=too_large.status, body=to_wire(too_large))
            except web.HTTPException as err:
                return web.Response(status=err.status)
            except ConnectionError:
                raise  # the caller is gone
            except Exception:  # supervisor of all handlers: a fault of ours costs one request, with a trace
                log.exception("request of a host failed", extra={"path": request.path})
                if request.writer.output_size > 0:
                    raise  # part of an answer is out: only cutting the connection says that it is not whole
                unforeseen = EngineError("Something went wrong; its log has the details.")
                return web.Response(status=500, body=to_wire(unforeseen, at=self._name))

        return gate

    def _admit(self, request: web.Request) -> None:
        found = peer_of(request.transport.get_extra_info("ssl_object") if request.transport else None)
        if found is None or not self._member(found.host):
            raise Unauthorized("This is for members of the cluster.")
        request[ASKER] = found.host

    async def _alive(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _call(self, request: web.Request) -> web.StreamResponse:
        with self._place():
            await self._hear(request)
            export = self._export(request)
            signature = wire.signature_of(export.protocol, request.match_info["method"])
            arguments = wire.unpack_arguments(signature, await _in_time(request, request.read(), READ_S))
            method = getattr(export.implementation, signature.method)
            if export.reads is not None:
                return web.Response(body=wire.pack(await method(**arguments)))
            if signature.streamed:
                return await self._streamed(request, cast("AsyncIterator[Any]", method(**arguments)))
            found = await acting(export.role, self._acting, lambda: method(**arguments))
            return web.Response(body=wire.pack(found))

    @property
    def serving(self) -> int:
        """Calls that are being answered."""
        return self._serving

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._serving >= AT_ONCE:
            raise Overloaded("This host serves as many calls as it can.", retry_after_s=1.0)
        self._serving += 1
        try:
            yield
        finally:
            self._serving -= 1

    async def _put_file(self, request: web.Request) -> web.Response:
        export = self._export(request)
        objects: ObjectFiles = export.implementation
        try:
            with tempfile.NamedTemporaryFile(dir=self._spool) as file:
                await self._take_in(request, file)
                key = await acting(export.role, self._acting, lambda: objects.put_file(Path(file.name)))
                return web.Response(text=key)
        except ConnectionError:
            raise  # the caller is gone
        except OSError as err:
            raise StorageFull(f"A file cannot be stored: {err.strerror}.", remedy=FREE) from err

    async def _take_in(self, request: web.Request, file: IO[bytes]) -> None:
        size = 0
        while block := await _in_time(request, request.content.readany(), self._move_s):
            size += len(block)
            if size > self._file_bytes:
                raise TooLarge(f"The file is over {self._file_bytes} bytes.")
            await asyncio.to_thread(file.write, block)
        await asyncio.to_thread(file.flush)

    async def _get_file(self, request: web.Request) -> web.StreamResponse:
        objects: ObjectFiles = self._export(request).implementation
        return web.FileResponse(await objects.path(request.match_info["key"]), chunk_size=BLOCK)

    async def _streamed(self, request: web.Request, items: AsyncIterator[Any]) -> web.StreamResponse:
        """The first item is waited for before anything is sent, so that a failure until then has its status."""
        response = web.StreamResponse()

        async def write(kind: bytes, body: bytes = b"") -> None:
            await _in_time(request, response.write(wire.frame(kind, body)), self._move_s)

        async with aclosing(cast("Any", items)) as stream:
            try:
                first: bytes | None = wire.pack(await anext(stream))
            except StopAsyncIteration:
                first = None
            await response.prepare(request)
            if first is not None:
                await write(wire.ITEM, first)
                try:
                    async for item in stream:
                        await write(wire.ITEM, wire.pack(item))
                except MorganError as err:
                    await write(wire.ERROR, to_wire(err, at=self._name))
                    return response
            await write(wire.END)
            return response

    async def _hear(self, request: web.Request) -> None:
        """What the caller has heard of this host's part, this host will hear in a moment."""
        export, asked = self._exports.get(request.match_info["port"]), _epoch_in(request)
        if export is None or asked is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARD_S):
                changed = self._acting.next()
                while (own := self._held(export.role)) is not None and own.epoch < asked:
                    await changed.wait()
                    changed = self._acting.next()

    def _export(self, request: web.Request) -> Export:
        """Raises InvalidInput for an unknown port, Fenced or Unavailable when the epochs differ."""
        name = request.match_info["port"]
        export = self._exports.get(name)
        asked = _epoch_in(request)
        if export is None or asked is None:
            raise InvalidInput(f"There is no port '{name}', or no epoch was given.")
        if export.reads is None:
            refusal = refuse(export.role, self._held(export.role), asked)
            if refusal is not None:
                raise refusal
        elif request.match_info.get("method") not in export.reads:
            raise InvalidInput(f"A copy of {export.role} is only read.")
        return export


def _epoch_in(request: web.Request) -> int | None:
    """None when what is given is no epoch: etcd counts to 2**63."""
    found = re.fullmatch(r"[0-9]{1,19}", request.headers.get(EPOCH, ""))
    return int(found[0]) if found else None


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


async def _in_time(request: web.Request, moving: Awaitable[T], limit_s: float) -> T:
    """What moves between us and the caller; one that stands still is cut off."""
    try:
        async with asyncio.timeout(limit_s):
            return await moving
    except TimeoutError as err:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionAbortedError(f"A host stood still for {limit_s:g} s.") from err
