"""A local way to etcd for programs that are told one address: connections are passed on to a voter, TLS and all.

All go to the same voter, for as long as it answers: a program that asks one voter and watches another would not notice
that what it watches has stopped. A voter that leaves a request without an answer loses all its connections, and is
not chosen again for a while. When another has been the better one for a while, all go over to that, in a quiet moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from morgand.base.clock import Clock
from morgand.cluster.etcd import Endpoint

log = logging.getLogger("morgand.cluster.etcd_proxy")

HOST = "127.0.0.1"  # the name of every voter's certificate, besides ``localhost``
CONNECT_S = 0.3
ANSWER_S = 0.8  # Patroni gives one attempt a second: it should find another voter when it tries again
AVOID_S = 5.0
LONG_S = 0.2  # an answer that takes longer may never come
ELECT_S = 0.3  # the voters that are left have a leader again by then; what reaches them sooner is lost, and told late
LOOK_EVERY_S = 0.2
BETTER_S = 5.0
CONNECTIONS = 64
BUFFER = 64 * 1024


@dataclass(eq=False, slots=True)
class _Passed:
    """A connection that is passed on. ``asked``: since when (monotonic seconds) the voter owes an answer."""

    url: str
    client: asyncio.StreamWriter
    voter: asyncio.StreamWriter
    asked: float | None = None

    def abort(self) -> None:
        self.client.transport.abort()
        self.voter.transport.abort()


class EtcdProxy:
    """``voters``, the best first, is asked at every connection and all the time: they come and go."""

    def __init__(self, voters: Callable[[], Sequence[Endpoint]], clock: Clock) -> None:
        self._voters, self._clock = voters, clock
        self._chosen = ""
        self._avoided: dict[str, float] = {}  # voter's URL -> until when
        self._better: tuple[str, float] | None = None  # than the chosen one, and since when
        self._held_until = 0.0
        self._passed: set[_Passed] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """The local port, for as long as the block lasts. Raises OSError."""
        server = await asyncio.start_server(self._accept, HOST, 0, limit=BUFFER)
        watching = asyncio.create_task(self._watch(), name="etcd-proxy")
        try:
            yield int(server.sockets[0].getsockname()[1])
        finally:
            server.close()
            for task in (watching, *self._tasks):
                task.cancel()
            await asyncio.gather(watching, *self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed: _Passed | None = None
        try:
            reached = await self._reach()
            if reached is None:
                return
            url, answers, voter = reached
            passed = _Passed(url, writer, voter)
            self._passed.add(passed)
            await self._pass(passed, reader, answers)
        finally:
            if passed is not None:
                self._passed.discard(passed)
                passed.voter.transport.abort()
            writer.transport.abort()

    async def _pass(self, passed: _Passed, asking: asyncio.StreamReader, answering: asyncio.StreamReader) -> None:
        """Until both directions have ended, or one of them broke."""

        async def asked() -> None:
            _acknowledge(passed.client)
            await self._clock.sleep(self._held_until - self._clock.monotonic())
            if passed.asked is None:
                passed.asked = self._clock.monotonic()

        async def answered() -> None:
            passed.asked = None

        ways = [
            asyncio.create_task(_copy(asking, passed.voter, asked)),
            asyncio.create_task(_copy(answering, passed.client, answered)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _reach(self) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter] | None:
        for endpoint in self._ordered():
            found = urlsplit(endpoint.url)
            try:
                async with asyncio.timeout(CONNECT_S):
                    answers, voter = await asyncio.open_connection(found.hostname, found.port, limit=BUFFER)
            except (TimeoutError, OSError):
                self._give_up(endpoint.url, "it cannot be reached")
            else:
                self._chosen = endpoint.url
                return endpoint.url, answers, voter
        return None

    def _ordered(self) -> list[Endpoint]:
        """The voter in use first; those that failed lately last, the one of longest ago before the others."""
        avoided = self._avoided_at(self._clock.monotonic())
        return sorted(self._voters(), key=lambda one: (avoided.get(one.url, 0.0), one.url != self._chosen))

    def _avoided_at(self, now: float) -> dict[str, float]:
        self._avoided = {url: until for url, until in self._avoided.items() if until > now}
        return self._avoided

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            urls = {one.url for one in self._voters()}
            now = self._clock.monotonic()
            for passed in tuple(self._passed):
                if passed.url not in urls:
                    passed.abort()
                elif len(urls) > 1 and passed.asked is not None and now - passed.asked > ANSWER_S:
                    self._give_up(passed.url, "it does not answer")
            self._go_over(now)

    def avoid(self, hosts: frozenset[str]) -> None:
        """Voters on these hosts may be gone, and with them what waits at others: etcd's leader may have been among
        them, and only what is asked anew reaches the next one. What was asked a moment ago has a moment more, and what
        is asked now is passed on in a moment."""
        now = self._clock.monotonic()
        for lost in [one for one in self._voters() if one.host_id in hosts]:
            self._give_up(lost.url, "its host is silent")
            self._held_until = now + ELECT_S
        self._drop(now - LONG_S)
        asyncio.get_running_loop().call_later(LONG_S, self._drop, now)

    def _drop(self, asked_until: float) -> None:
        for passed in tuple(self._passed):
            if passed.asked is not None and passed.asked <= asked_until:
                passed.abort()

    def _go_over(self, now: float) -> None:
        avoided = self._avoided_at(now)
        best = min(self._voters(), key=lambda one: avoided.get(one.url, 0.0), default=None)
        if best is None or best.url == self._chosen:
            self._better = None
        elif self._better is None or self._better[0] != best.url:
            self._better = best.url, now
        elif now - self._better[1] >= BETTER_S and all(passed.asked is None for passed in self._passed):
            self._chosen, self._better = best.url, None
            for passed in tuple(self._passed):
                passed.abort()

    def _give_up(self, url: str, why: str) -> None:
        if url not in self._avoided:
            log.info("voter avoided", extra={"voter": url, "reason": why})
        self._avoided[url] = self._clock.monotonic() + AVOID_S
        for passed in tuple(self._passed):
            if passed.url == url:
                passed.asked = None
                passed.abort()


def _acknowledge(client: asyncio.StreamWriter) -> None:
    """What came from the client, now and not 40 ms later.

    Patroni sends a request in two parts and leaves Nagle's algorithm on, so the second one waits for that
    (RFC 9293, section 3.7.4; tcp(7), TCP_QUICKACK, which holds for once).
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # it is gone: whoever reads next will see
            client.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: Callable[[], Awaitable[None]]
) -> None:
    """Raises ConnectionError."""
    while data := await reader.read(BUFFER):
        await passing()
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):  # the other end may be gone for good
        writer.write_eof()
