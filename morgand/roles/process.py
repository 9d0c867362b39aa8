"""Engines in processes of their own: how the daemon and an engine program speak to each other.

An engine is started as ``python -m MODULE --socket PATH``. The first line of its stdin carries its options as
JSON (never argv: options may hold secrets), and stdin stays open as a lifeline: when it closes, the daemon is
gone and the engine exits at once. Requests are HTTP over a Unix socket of mode 0600 with msgpack bodies.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
from aiohttp import web

from morgand.base.error_wire import from_wire, to_wire
from morgand.base.errors import EngineError, MorganError, Unavailable

Handler = Callable[[bytes], Awaitable[bytes]]
Build = Callable[[dict[str, Any]], Awaitable[dict[str, Handler]]]
ReplyT = TypeVar("ReplyT")

MAX_BODY_BYTES = 512 * 1024 * 1024
_PR_SET_PDEATHSIG = 1


# --- child side ----------------------------------------------------------------------------------


def read_options() -> tuple[Path, dict[str, Any]]:
    """Socket path and options of this engine; from here on the process dies with the daemon."""
    parser = argparse.ArgumentParser(description="An engine of morgand; started by the daemon.")
    parser.add_argument("--socket", type=Path, required=True)
    socket: Path = parser.parse_args().socket
    os.umask(0o077)
    _die_with_parent()
    options: dict[str, Any] = json.loads(_first_line())
    threading.Thread(target=_lifeline, name="lifeline", daemon=True).start()
    socket.unlink(missing_ok=True)
    return socket, options


def serve(build: Build) -> None:
    """Entry of an engine program: load with ``build`` and answer until told to stop.

    ``GET /health`` answers 503 while loading. A MorganError while loading ends the process with one line.
    """
    socket, options = read_options()
    try:
        asyncio.run(_serve(build, socket, options))
    except MorganError as err:
        sys.stderr.write(f"{err}\n")
        sys.exit(1)


async def _serve(build: Build, socket: Path, options: dict[str, Any]) -> None:
    handlers: dict[str, Handler] = {}
    runner = web.AppRunner(_app(handlers), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await web.UnixSite(runner, str(socket)).start()
        handlers.update(await build(options))
        await stop.wait()
    finally:
        await runner.cleanup()


def _app(handlers: dict[str, Handler]) -> web.Application:
    async def health(_: web.Request) -> web.Response:
        return web.Response(status=200 if handlers else 503)

    async def call(request: web.Request) -> web.Response:
        handler = handlers.get(request.match_info["name"])
        if handler is None:
            return _failure(Unavailable("The engine is still loading."))
        try:
            return web.Response(body=await handler(await request.read()))
        except msgspec.MsgspecError as err:
            return _failure(EngineError(f"The engine was sent something it does not understand: {err}."))
        except MorganError as err:
            return _failure(err)

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.add_routes([web.get("/health", health), web.post("/{name}", call)])
    return app


def _failure(err: MorganError) -> web.Response:
    return web.Response(status=err.status, body=to_wire(err))


def _first_line() -> bytes:
    """Read byte by byte up to the first newline: the rest of stdin belongs to the lifeline."""
    line = bytearray()
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return bytes(line)


def _lifeline() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def _die_with_parent() -> None:
    """Linux only: the kernel kills this process when the daemon's main thread ends, whatever state we are in."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


# --- daemon side ---------------------------------------------------------------------------------


class EngineClient:
    """Calls to one engine. Raises the engine's own MorganError, or EngineError when it cannot be reached."""

    def __init__(self, socket: Path, name: str) -> None:
        self._socket = socket
        self._name = name
        self._session: aiohttp.ClientSession | None = None

    async def call(self, name: str, payload: msgspec.Struct, reply: type[ReplyT], *, deadline_s: float) -> ReplyT:
        """POST ``payload`` to handler ``name`` and decode the answer as ``reply``."""
        status, body = await self._request("POST", name, msgspec.msgpack.encode(payload), deadline_s)
        if status == 200:
            return msgspec.msgpack.decode(body, type=reply)
        raise from_wire(body, f"The {self._name} engine")

    async def healthy(self, *, deadline_s: float = 5.0) -> bool:
        """Whether the engine answers and has loaded."""
        try:
            status, _ = await self._request("GET", "health", b"", deadline_s)
        except EngineError:
            return False
        return status == 200

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _request(self, method: str, name: str, body: bytes, deadline_s: float) -> tuple[int, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._socket), limit=32))
        timeout = aiohttp.ClientTimeout(total=deadline_s)
        try:
            async with self._session.request(method, f"http://engine/{name}", data=body, timeout=timeout) as response:
                return response.status, await response.read()
        except TimeoutError as err:
            raise EngineError(f"The {self._name} engine did not answer within {deadline_s:g} s.") from err
        except (aiohttp.ClientError, OSError) as err:
            raise EngineError(f"The {self._name} engine is not running.") from err
