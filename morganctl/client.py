"""The HTTP client of ``/v1``: deadlines, retries, streams, and errors turned into sentences with a next step.

Every failure that leaves this module is a ``CliError``. A request that never reached the daemon, or was answered
503, is asked again up to three times; one whose answer got lost only when repeating it changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
import msgspec

from morganctl import retry, sse
from morganctl.discover import Target
from morganctl.errors import Away, Busy, CliError, Refused, ServiceUnavailable, UsageFault
from morgand.api.schema import ErrorBody, ErrorReply, Request

T = TypeVar("T")
Params = Mapping[str, str | int]
Sleep = Callable[[float], Awaitable[None]]

CONNECT_S = 5.0
REQUEST_S = 30.0
STREAM_S = 900.0  # a long answer of a small machine
STREAM_SILENCE_S = 300.0  # reading a long prompt takes minutes on a CPU
ENDS = {"done", "queued", "error"}  # events after which nothing comes
STALE = "X-Morgan-Stale"
REPLY_LIMIT_BYTES = 256 * 1024 * 1024


class Client:
    """One session with the daemon; use as ``async with Client(target) as client``."""

    def __init__(self, target: Target, *, sleep: Sleep = asyncio.sleep) -> None:
        self._target = target
        self._sleep = sleep
        self.stale = False  # whether an answer came from a copy of the database, and has no notices that say so
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        socket = self._target.socket
        connector = aiohttp.TCPConnector() if socket is None else aiohttp.UnixConnector(path=str(socket))
        headers = {"Authorization": f"Bearer {self._target.key}"} if self._target.key else {}
        self._session = aiohttp.ClientSession(connector=connector, headers=headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, path: str, reply: type[T], params: Params | None = None) -> T:
        return await self.ask("GET", path, reply, params=params)

    async def ask(
        self,
        method: str,
        path: str,
        reply: type[T],
        body: Request | None = None,
        *,
        params: Params | None = None,
        repeatable: bool | None = None,
        deadline_s: float = REQUEST_S,
    ) -> T:
        """One request and its decoded reply. ``repeatable``: doing it twice changes nothing (default: not for POST)."""
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if content is None else {"Content-Type": "application/json"}
        again = method != "POST" if repeatable is None else repeatable

        async def once() -> T:
            async with self._session.request(
                method, self._url(path), data=content, headers=headers, params=params, timeout=_timeout(deadline_s)
            ) as response:
                return await self._reply(response, reply)

        return await self._retried(once, lost_too=again, deadline_s=deadline_s)

    async def upload(self, path: str, form: Callable[[], aiohttp.FormData], reply: type[T], *, deadline_s: float) -> T:
        """POST a form once, without retries: the caller waits and repeats, since uploading twice stores once."""
        try:
            async with self._session.post(self._url(path), data=form(), timeout=_timeout(deadline_s)) as response:
                return await self._reply(response, reply)
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            raise self._translated(err, deadline_s) from err

    async def stream(self, path: str, body: Request) -> AsyncGenerator[sse.Event, None]:
        """The events of a streamed answer, ended by ``done``, ``queued`` or ``error``.

        The body must be repeatable. When the connection breaks the question is asked again and a ``replace`` event
        with an empty text tells that the answer begins anew.
        """
        attempt = 0
        while True:
            started = False
            try:
                async with aclosing(self._stream_once(path, body)) as events:
                    async for event in events:
                        started = True
                        yield event
                        if event.name in ENDS:
                            return
                raise aiohttp.ServerDisconnectedError("the stream ended early")
            except (aiohttp.ClientError, TimeoutError, OSError, Busy) as err:
                wait_s = retry.delay_s(attempt, err.retry_after_s if isinstance(err, Busy) else None)
                if wait_s is None or not _worth_retrying(err, lost_too=True):
                    raise self._translated(err, STREAM_S) from err
                await self._sleep(wait_s)
                attempt += 1
            if started:
                yield sse.Event("replace", b'{"text":""}')

    async def _stream_once(self, path: str, body: Request) -> AsyncGenerator[sse.Event, None]:
        async with self._session.post(
            self._url(path),
            data=msgspec.json.encode(body),
            headers={"Content-Type": "application/json", "Accept": "text/event-stream"},
            timeout=_timeout(STREAM_S, silence_s=STREAM_SILENCE_S),
        ) as response:
            if response.content_type != "text/event-stream":
                # A stored answer may come whole.
                name = "queued" if response.status == 202 else "done"
                yield sse.Event(name, await self._reply(response, msgspec.Raw))
                return
            parser = sse.Parser()
            async for chunk in response.content.iter_any():
                try:
                    events = parser.feed(chunk)
                except sse.EventTooLarge as err:
                    raise self._foreign() from err
                for event in events:
                    yield event

    def _url(self, path: str) -> str:
        return f"{self._target.url}{path}"

    async def _reply(self, response: aiohttp.ClientResponse, reply: type[T]) -> T:
        if response.content_length is not None and response.content_length > REPLY_LIMIT_BYTES:
            raise self._foreign()
        content = await response.read()
        if response.status >= 400:
            raise _refusal(response, content)
        try:
            found = msgspec.json.decode(content, type=reply)
        except msgspec.DecodeError as err:
            raise self._foreign() from err
        if STALE in response.headers and not hasattr(found, "notices"):
            self.stale = True
        return found

    async def _retried(self, once: Callable[[], Awaitable[T]], *, lost_too: bool, deadline_s: float) -> T:
        attempt = 0
        while True:
            try:
                return await once()
            except (aiohttp.ClientError, TimeoutError, OSError, Busy) as err:
                wait_s = retry.delay_s(attempt, err.retry_after_s if isinstance(err, Busy) else None)
                if wait_s is None or not _worth_retrying(err, lost_too=lost_too):
                    raise self._translated(err, deadline_s) from err
            await self._sleep(wait_s)
            attempt += 1

    def _translated(self, error: Exception, deadline_s: float) -> CliError:
        """The sentence for an error of the connection; ours pass."""
        place = self._target.shown
        if isinstance(error, CliError):
            return error
        if isinstance(error, TimeoutError):
            return ServiceUnavailable(
                f"morgand at {place} gave no answer within {deadline_s:.0f} s.",
                code="timeout",
                remedy="See what it is doing with `morganctl status`.",
            )
        if isinstance(error, aiohttp.InvalidURL):
            return UsageFault(f"'{place}' is not a URL.", remedy="Write it as http://HOST:PORT.")
        if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, PermissionError):
            return CliError(f"You may not use the socket {place}.", remedy="Run as the user that runs morgand.")
        if isinstance(error, aiohttp.ClientConnectorError | FileNotFoundError):
            return self._absent(error)
        return Away(f"The connection to morgand at {place} broke.", remedy="See if it runs with `morganctl status`.")

    def _absent(self, error: OSError) -> CliError:
        if self._target.socket is not None:
            return Away(
                f"morgand is not running (nobody listens on {self._target.socket}).",
                remedy="Start it with `morgand run`, or name its data directory with --data-dir.",
            )
        return Away(
            f"Nobody answers at {self._target.url} ({error.strerror or 'no connection'}).",
            remedy="Check the address, and that `morgand run` is up there with api.listen on that address.",
        )

    def _foreign(self) -> CliError:
        return CliError(
            f"What answers at {self._target.shown} does not speak this version's API.",
            code="protocol",
            remedy="Check the address, and that morganctl and morgand have the same version.",
        )


def _timeout(total_s: float, *, silence_s: float | None = None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=total_s, connect=CONNECT_S, sock_read=silence_s)


def _worth_retrying(error: Exception, *, lost_too: bool) -> bool:
    if isinstance(error, Busy):
        return True
    if isinstance(error, aiohttp.ClientConnectorError):
        return isinstance(error.os_error, ConnectionRefusedError | FileNotFoundError | ConnectionResetError)
    lost = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | aiohttp.ClientOSError)
    return lost and lost_too


def _refusal(response: aiohttp.ClientResponse, content: bytes) -> CliError:
    try:
        body = msgspec.json.decode(content, type=ErrorReply).error
    except msgspec.DecodeError:
        body = ErrorBody("http", f"The daemon answered {response.status} {response.reason or ''}".strip() + ".")
    wanted_s = retry.parse_retry_after(response.headers.get("Retry-After"))
    if response.status in {429, 503}:
        return Busy(
            body.message,
            code=body.code,
            remedy=body.remedy,
            retry_after_s=retry.FIRST_DELAY_S if wanted_s is None else wanted_s,
        )
    remedy = body.remedy
    if response.status == 401 and remedy is None:
        remedy = "Give a key with MORGAN_API_KEY or --key-file; make one with `morganctl keys create` on the host."
    return Refused(response.status, body.message, code=body.code, remedy=remedy)
