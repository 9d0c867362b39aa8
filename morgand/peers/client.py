"""Speaks to other hosts: HTTPS with certificates on both sides, deadlines, and an eye on whether the host is there.

A slow model may take as long as it needs; a host that is frozen or gone must not. So while a call waits, the host is
asked on another connection whether it is alive, and two misses in a row end the call.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from morgand.clock import Clock
from morgand.errors import MorganError, Unavailable
from morgand.failure import from_wire
from morgand.peers import wire
from morgand.peers.wire import Signature

T = TypeVar("T")
AddressOf = Callable[[str], str | None]  # host id -> "ip:port" of its API for hosts

CONNECT_S = 1.0
ALIVE_S = 0.5
PING_EVERY_S = 0.5
MISSES = 2
SUSPECT_S = 5.0  # how long a host that failed is asked last
MAX_FRAME_BYTES = 64 * 1024 * 1024
MAX_FILE_BYTES = 16 * 1024 * 1024 * 1024
EPOCH = "X-Morgan-Epoch"
BLOCK = 1 << 20


class PeerClient:
    """One for the daemon. ``tls`` is this host's own; hosts are told apart by name, not by address."""

    def __init__(self, tls: ssl.SSLContext, address_of: AddressOf, clock: Clock) -> None:
        self._tls = tls
        self._address_of = address_of
        self._clock = clock
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._suspects: dict[str, float] = {}

    async def call(self, host: str, role: str, signature: Signature, arguments: bytes, *, epoch: int) -> Any:
        """One call and its result. Raises the other side's error, or Unavailable."""
        return await self._watched(host, self._call(host, role, signature, arguments, epoch))

    async def stream(
        self, host: str, role: str, signature: Signature, arguments: bytes, *, epoch: int
    ) -> AsyncIterator[Any]:
        """Items as they come. Leaving early closes the connection, which ends the work over there."""
        async with aclosing(self._stream(host, role, signature, arguments, epoch)) as items:
            while True:
                found = await self._watched(host, _next(items))
                if found is None:
                    return
                yield found[0]

    async def alive(self, host: str, deadline_s: float = ALIVE_S) -> bool:
        """Whether the host answers in time."""
        try:
            timeout = aiohttp.ClientTimeout(total=deadline_s)
            async with self._request(host, "GET", "/peer/v1/alive", timeout) as response:
                return bool(response.status == 200)
        except (Unavailable, aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def send_file(self, host: str, role: str, path: Path, *, epoch: int) -> str:
        """Store a file's content at the host that holds ``role``; returns its key."""
        return await self._watched(host, self._send_file(host, role, path, epoch))

    async def fetch_file(self, host: str, role: str, key: str, target: Path, *, epoch: int) -> None:
        """Write an object's content to ``target``."""
        await self._watched(host, self._fetch_file(host, role, key, target, epoch))

    async def post(self, host: str, path: str, body: bytes, *, deadline_s: float) -> bytes:
        """A request outside of the ports. Raises the other side's error, or Unavailable."""
        return await self._posted(host, path, body, {}, aiohttp.ClientTimeout(total=deadline_s))

    def suspect(self, host: str) -> bool:
        """Whether it failed a moment ago: others are asked first."""
        return self._clock.monotonic() < self._suspects.get(host, 0.0)

    async def abort(self, host: str) -> None:
        """Drop all connections to a host at once: it is fenced."""
        session = self._sessions.pop(host, None)
        if session is not None:
            await session.close()

    async def close(self) -> None:
        for host in list(self._sessions):
            await self.abort(host)

    async def _watched(self, host: str, work: Coroutine[Any, Any, T]) -> T:
        doing = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait({doing}, timeout=PING_EVERY_S)
            misses = 0
            while not done:
                misses = 0 if await self.alive(host) else misses + 1
                if misses >= MISSES and not doing.done():
                    raise _silent(host)
                done, _ = await asyncio.wait({doing}, timeout=PING_EVERY_S)
            return doing.result()
        except Unavailable:
            self._suspects[host] = self._clock.monotonic() + SUSPECT_S
            raise
        finally:
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)  # seen, whatever became of it

    async def _call(self, host: str, role: str, signature: Signature, arguments: bytes, epoch: int) -> Any:
        path = f"/peer/v1/{role}/{signature.method}"
        body = await self._posted(host, path, arguments, {EPOCH: str(epoch)}, _patient())
        return wire.unpack(signature, body)

    async def _posted(
        self, host: str, path: str, body: bytes, headers: dict[str, str], limits: aiohttp.ClientTimeout
    ) -> bytes:
        try:
            async with self._request(host, "POST", path, limits, data=body, headers=headers) as response:
                answer: bytes = await response.read()
                if response.status != 200:
                    raise from_wire(answer, f"Host {host}")
                return answer
        except (aiohttp.ClientError, OSError, TimeoutError) as err:
            raise _unreachable(host, err) from err

    async def _stream(
        self, host: str, role: str, signature: Signature, arguments: bytes, epoch: int
    ) -> AsyncGenerator[Any, None]:
        path = f"/peer/v1/{role}/{signature.method}"
        headers = {EPOCH: str(epoch)}
        try:
            async with self._request(host, "POST", path, _patient(), data=arguments, headers=headers) as response:
                if response.status != 200:
                    raise from_wire(await response.read(), f"Host {host}")
                while True:
                    length, kind = wire.head(await response.content.readexactly(wire.HEAD_BYTES))
                    if length > MAX_FRAME_BYTES:
                        raise Unavailable(f"Host {host} sent more than can be taken at once.")
                    body = await response.content.readexactly(length)
                    if kind == wire.END:
                        return
                    if kind == wire.ERROR:
                        raise from_wire(body, f"Host {host}")
                    yield wire.unpack(signature, body)
        except asyncio.IncompleteReadError as err:
            raise Unavailable(f"Host {host} stopped in the middle of its answer.") from err
        except (aiohttp.ClientError, OSError, TimeoutError) as err:
            raise _unreachable(host, err) from err

    async def _send_file(self, host: str, role: str, path: Path, epoch: int) -> str:
        async def blocks() -> AsyncIterator[bytes]:
            with path.open("rb") as file:
                while block := await asyncio.to_thread(file.read, BLOCK):
                    yield block

        try:
            async with self._request(
                host, "PUT", f"/peer/v1/{role}/files", _patient(), data=blocks(), headers={EPOCH: str(epoch)}
            ) as response:
                body: bytes = await response.read()
                if response.status != 200:
                    raise from_wire(body, f"Host {host}")
                return body.decode()
        except (aiohttp.ClientError, OSError, TimeoutError) as err:
            raise _unreachable(host, err) from err

    async def _fetch_file(self, host: str, role: str, key: str, target: Path, epoch: int) -> None:
        try:
            async with self._request(
                host, "GET", f"/peer/v1/{role}/files/{key}", _patient(), headers={EPOCH: str(epoch)}
            ) as response:
                if response.status != 200:
                    raise from_wire(await response.read(), f"Host {host}")
                with target.open("wb") as file:
                    async for block in response.content.iter_chunked(BLOCK):
                        await asyncio.to_thread(file.write, block)
        except (aiohttp.ClientError, TimeoutError) as err:
            raise _unreachable(host, err) from err

    def _request(self, host: str, method: str, path: str, limits: aiohttp.ClientTimeout, **more: Any) -> Any:
        address = self._address_of(host)
        if address is None:
            raise Unavailable(f"The address of host {host} is not known.")
        session = self._sessions.get(host)
        if session is None:
            session = self._sessions[host] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100))
        url = f"https://{address}{path}"
        return session.request(method, url, ssl=self._tls, server_hostname=f"{host}.morgan", timeout=limits, **more)


def _patient() -> aiohttp.ClientTimeout:
    """Of a call whose host is watched: only connecting has a deadline of its own."""
    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)


async def _next(items: AsyncGenerator[Any, None]) -> tuple[Any] | None:
    """The next item, or None at the end: a task may not end with StopAsyncIteration."""
    async for item in items:
        return (item,)
    return None


def _silent(host: str) -> MorganError:
    return Unavailable(f"Host {host} does not answer any more.")


def _unreachable(host: str, err: Exception) -> MorganError:
    return Unavailable(f"Host {host} cannot be reached: {str(err) or type(err).__name__}.")
