"""Speaks to other hosts: HTTPS with certificates on both sides, deadlines, and an eye on whether the host is there.

Calls have no deadline of their own, since a slow model may take as long as it needs: ``watch`` ends them when the host
shows no sign of life. Signs of life travel on connections of their own, so that no amount of calls holds them up.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from morgand.base import files
from morgand.base.aio import in_order, to_its_end
from morgand.base.clock import Clock
from morgand.base.error_wire import from_wire
from morgand.base.errors import EngineError, MorganError, Overloaded, StorageFull, TooLarge, Unavailable
from morgand.peers import wire
from morgand.peers.watch import ALIVE_S, Watch
from morgand.peers.wire import Signature

T = TypeVar("T")
AddressOf = Callable[[str], str | None]  # host id -> "ip:port" of its API for hosts

CONNECT_S = 1.0
SUSPECT_S = 5.0  # how long a host that failed is asked last
CONNECTIONS = 100  # to one host
MAX_ANSWER_BYTES = 512 * 1024 * 1024
MAX_FRAME_BYTES = 64 * 1024 * 1024
MAX_FILE_BYTES = 16 * 1024 * 1024 * 1024
EPOCH = "X-Morgan-Epoch"
BLOCK = 1 << 20


class NotReached(Unavailable):
    """The host cannot be reached: it was asked nothing."""


@dataclass(frozen=True, slots=True)
class _Line:
    """All there is to one host; closed as one."""

    calls: aiohttp.ClientSession
    pings: aiohttp.ClientSession
    watch: Watch

    async def close(self) -> None:
        await in_order(self.watch.close, self.calls.close, self.pings.close)


class PeerClient:
    """One for the daemon. ``tls`` is this host's own; hosts are told apart by name, not by address."""

    def __init__(
        self, tls: ssl.SSLContext, address_of: AddressOf, clock: Clock, *, answer_bytes: int = MAX_ANSWER_BYTES,
        name_of: Callable[[str], str] = str,
    ) -> None:  # fmt: skip
        """``name_of``: what people call a host, for what goes wrong with it."""
        self._tls = tls
        self._address_of, self._name_of = address_of, name_of
        self._clock = clock
        self._answer_bytes = answer_bytes
        self._lines: dict[str, _Line] = {}
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
            async with self._request(host, "GET", "/peer/v1/alive", timeout, ping=True) as response:
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
        line = self._lines.pop(host, None)
        if line is not None:
            await line.close()

    async def close(self) -> None:
        await in_order(*(partial(self.abort, host) for host in list(self._lines)))

    async def _watched(self, host: str, work: Coroutine[Any, Any, T]) -> T:
        doing = asyncio.ensure_future(work)
        try:
            with self._line(host).watch.waiting() as lost:
                both: tuple[asyncio.Future[Any], ...] = (doing, lost)
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                return _outcome(doing, lost)
        except Overloaded:
            raise  # it is well, and says so
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
        self, host: str, path: str, body: bytes | AsyncIterator[bytes], headers: dict[str, str],
        limits: aiohttp.ClientTimeout, *, method: str = "POST",
    ) -> bytes:  # fmt: skip
        try:
            async with self._request(host, method, path, limits, data=body, headers=headers) as response:
                answer = await self._read(response)
                if response.status != 200:
                    raise _refused(self._name_of(host), response.status, answer)
                return answer
        except (aiohttp.ClientError, OSError, TimeoutError) as err:
            raise _unreachable(self._name_of(host), err) from err

    async def _stream(
        self, host: str, role: str, signature: Signature, arguments: bytes, epoch: int
    ) -> AsyncGenerator[Any, None]:
        path = f"/peer/v1/{role}/{signature.method}"
        headers = {EPOCH: str(epoch)}
        try:
            async with self._request(host, "POST", path, _patient(), data=arguments, headers=headers) as response:
                if response.status != 200:
                    raise _refused(self._name_of(host), response.status, await self._read(response))
                while True:
                    length, kind = wire.head(await response.content.readexactly(wire.HEAD_BYTES))
                    if length > MAX_FRAME_BYTES:
                        raise _too_much()
                    body = await response.content.readexactly(length)
                    if kind == wire.END:
                        return
                    if kind == wire.ERROR:
                        raise from_wire(body, f"Host {host}")
                    yield wire.unpack(signature, body)
        except asyncio.IncompleteReadError as err:
            raise Unavailable(f"Host {self._name_of(host)} stopped in the middle of its answer.") from err
        except (aiohttp.ClientError, OSError, TimeoutError) as err:
            raise _unreachable(self._name_of(host), err) from err

    async def _send_file(self, host: str, role: str, path: Path, epoch: int) -> str:
        headers = {EPOCH: str(epoch)}
        with await asyncio.to_thread(path.open, "rb") as file:

            async def blocks() -> AsyncIterator[bytes]:
                while block := await asyncio.to_thread(file.read, BLOCK):
                    yield block

            body = await self._posted(host, f"/peer/v1/{role}/files", blocks(), headers, _patient(), method="PUT")
        return body.decode("ascii", "replace")

    async def _fetch_file(self, host: str, role: str, key: str, target: Path, epoch: int) -> None:
        try:
            async with self._request(
                host, "GET", f"/peer/v1/{role}/files/{key}", _patient(), headers={EPOCH: str(epoch)}
            ) as response:
                if response.status != 200:
                    raise _refused(self._name_of(host), response.status, await self._read(response))
                await _write(target, response.content.iter_chunked(BLOCK))
        except (aiohttp.ClientError, TimeoutError) as err:
            raise _unreachable(self._name_of(host), err) from err

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        found = bytearray()
        async for block in response.content.iter_any():
            found += block
            if len(found) > self._answer_bytes:
                raise _too_much()
        return bytes(found)

    def _line(self, host: str) -> _Line:
        line = self._lines.get(host)
        if line is None:
            calls, pings = (aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=n)) for n in (CONNECTIONS, 2))
            watch = Watch(self._name_of(host), lambda: self.alive(host), self._clock)
            line = self._lines[host] = _Line(calls, pings, watch)
        return line

    def _request(
        self, host: str, method: str, path: str, limits: aiohttp.ClientTimeout, *, ping: bool = False, **more: Any
    ) -> Any:
        address = self._address_of(host)
        if address is None:
            raise NotReached(f"The address of host {self._name_of(host)} is not known.")
        line = self._line(host)
        session = line.pings if ping else line.calls
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


def _outcome(doing: asyncio.Future[T], lost: asyncio.Future[str]) -> T:
    if doing.done():
        return doing.result()
    raise Unavailable(lost.result())


async def _write(target: Path, blocks: AsyncIterator[bytes]) -> None:
    """All of it or no file. Raises TooLarge, StorageFull."""
    size, whole = 0, False
    try:
        await _append(target, b"")
        async for block in blocks:
            size += len(block)
            if size > MAX_FILE_BYTES:
                raise TooLarge(f"The file is over {MAX_FILE_BYTES} bytes.")
            await _append(target, block)
        whole = True
    finally:
        if not whole:
            await asyncio.to_thread(target.unlink, missing_ok=True)


async def _append(target: Path, block: bytes) -> None:
    """Whoever is cut off meanwhile waits: a thread that writes later would make the file anew."""
    try:
        await to_its_end(asyncio.to_thread(files.append, target, block))
    except OSError as err:
        raise _full(err) from err


def _full(err: OSError) -> StorageFull:
    return StorageFull(f"A file of another host cannot be stored here: {err.strerror}.")


def _refused(host: str, status: int, body: bytes) -> MorganError:
    """What the other side says is wrong; to who is no member it says nothing."""
    if status == 401 and not body:
        return NotReached(f"Host {host} does not take this host for a member of the cluster.")
    return from_wire(body, f"Host {host}")


def _too_much() -> MorganError:
    return EngineError("Another host answered more than can be taken at once.")


def _unreachable(host: str, err: Exception) -> MorganError:
    cls = NotReached if isinstance(err, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError) else Unavailable
    return cls(f"Host {host} cannot be reached: {str(err) or type(err).__name__}.")
