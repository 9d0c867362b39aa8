"""Server-sent events: framing, keep-alive comments, and an end that says whether it is one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import TypeVar, cast

import msgspec
from aiohttp import web

from morgand.api.routes import STALE
from morgand.base import staleness
from morgand.base.errors import MorganError

E = TypeVar("E")

KEEPALIVE_S = 15.0
KEEPALIVE = b": keep-alive\n\n"
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}


def event(name: str, data: msgspec.Struct) -> bytes:
    """One named event. JSON holds no bare line break, so one ``data`` line is enough."""
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"


def data(content: bytes) -> bytes:
    """One unnamed event, as the OpenAI dialect sends them."""
    return b"data: " + content + b"\n\n"


async def respond(
    request: web.Request,
    source: AsyncIterator[E],
    frame: Callable[[E], bytes],
    failure: Callable[[MorganError], bytes],
    *,
    last: bytes = b"",
    keepalive_s: float = KEEPALIVE_S,
) -> web.StreamResponse:
    """Stream ``source``; a MorganError before the first event is raised, so that it gets its own status.

    When the client goes away the handler is cancelled, and with it the source: the generation stops.
    """
    response = web.StreamResponse(headers=HEADERS)
    generator = cast("AsyncGenerator[E, None]", source)  # ports promise an iterator; every one of them is a generator
    async with aclosing(generator), aclosing(_with_pauses(source, keepalive_s)) as items:
        try:
            async for item in items:
                if not response.prepared:
                    response.headers.update({STALE: "true"} if staleness.stale() else {})
                    await response.prepare(request)
                await response.write(KEEPALIVE if item is None else frame(item))
        except MorganError as err:
            if not response.prepared:
                raise
            await response.write(failure(err))
        else:
            if not response.prepared:
                await response.prepare(request)
            await response.write(last)
        await response.write_eof()
    return response


async def _with_pauses(source: AsyncIterator[E], pause_s: float) -> AsyncGenerator[E | None, None]:
    """The items of ``source``, and None whenever none came for ``pause_s`` seconds."""
    waiting: asyncio.Task[E] | None = None
    try:
        while True:
            if waiting is None:
                waiting = asyncio.create_task(_next(source))
            done, _ = await asyncio.wait({waiting}, timeout=pause_s)
            if not done:
                yield None
                continue
            finished, waiting = waiting, None
            try:
                item = finished.result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


async def _next(source: AsyncIterator[E]) -> E:
    return await anext(source)
