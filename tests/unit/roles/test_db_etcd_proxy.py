"""The local way to etcd: real sockets on loopback, voters that answer, refuse, stand still and go away."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from morgand.base.clock import SystemClock
from morgand.cluster.etcd import Endpoint
from morgand.roles.db import etcd_proxy
from morgand.roles.db.etcd_proxy import EtcdProxy

SOON_S = 5.0


@dataclass
class FakeVoter:
    """Answers every line with its own name and the line; ``silent``: takes all and says nothing."""

    name: str
    silent: bool = False
    server: asyncio.Server | None = None
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    port: int = 0

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(f"https://127.0.0.1:{self.port}", self.name)

    async def start(self) -> FakeVoter:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = int(self.server.sockets[0].getsockname()[1])
        return self

    async def stop(self) -> None:
        """As a process that was killed: nobody listens, connections are reset."""
        if self.server is not None:
            self.server.close()
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                if not self.silent:
                    writer.write(self.name.encode() + b" " + line)
                    await writer.drain()
            writer.write(b"end\n")
        writer.close()


class Client:
    """A connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, line: str = "x") -> str:
        """The answer; empty when the connection has ended."""
        try:
            self.writer.write(line.encode() + b"\n")
            async with asyncio.timeout(SOON_S):
                return (await self.reader.readline()).decode().strip()
        except ConnectionError:
            return ""

    async def ended(self) -> bool:
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(SOON_S):
                return await self.reader.read() == b""
        return True


@dataclass
class Town:
    """A proxy at ``port`` to the voters in ``listed``, which a test may change."""

    listed: list[FakeVoter]
    proxy: EtcdProxy = field(init=False)
    port: int = 0
    clients: list[Client] = field(default_factory=list)

    def voters(self) -> Sequence[Endpoint]:
        return [voter.endpoint for voter in self.listed]

    async def client(self) -> Client:
        self.clients.append(Client(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.clients[-1]


@contextlib.asynccontextmanager
async def town(*voters: FakeVoter) -> AsyncIterator[Town]:
    made = Town([await voter.start() for voter in voters])
    try:
        made.proxy = EtcdProxy(made.voters, SystemClock())
        async with made.proxy.listening() as made.port:
            yield made
    finally:
        for client in made.clients:
            client.writer.transport.abort()
        for voter in voters:
            await voter.stop()
        await asyncio.sleep(0.01)  # for transports to be closed


async def test_all_connections_go_to_one_voter_that_answers() -> None:
    """What is watched and what is asked must be the same voter."""
    async with town(FakeVoter("a"), FakeVoter("b")) as here:
        answers = [await (await here.client()).ask(str(number)) for number in range(4)]
    assert answers == [f"a {number}" for number in range(4)]


async def test_a_voter_that_is_gone_is_replaced() -> None:
    """Its connections end, so that the program connects again; the next one answers, and stays the one in use."""
    a, b = FakeVoter("a"), FakeVoter("b")
    async with town(a, b) as here:
        client = await here.client()
        assert await client.ask() == "a x"
        await a.stop()
        assert await client.ended()
        assert await (await here.client()).ask() == "b x"
        await a.start()
        assert await (await here.client()).ask() == "b x"


async def test_a_voter_that_does_not_answer_loses_all_its_connections() -> None:
    """A frozen one accepts connections and requests: also a connection that only listens must end."""
    a, b = FakeVoter("a"), FakeVoter("b")
    async with town(a, b) as here:
        watching, asking = await here.client(), await here.client()
        assert await watching.ask() == "a x"
        a.silent = True
        assert await asking.ask() == ""
        assert await watching.ended()
        assert await (await here.client()).ask() == "b x"


async def test_a_lost_host_takes_with_it_what_waits_at_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own connections end, and those that have waited long for an answer; the others go on."""
    monkeypatch.setattr(etcd_proxy, "ANSWER_S", 60.0)
    a, b = FakeVoter("a"), FakeVoter("b")
    async with town(a, b) as here:
        on_a = await here.client()
        assert await on_a.ask() == "a x"
        here.proxy.avoid(frozenset("a"))
        assert await on_a.ended()
        well, waiting = await here.client(), await here.client()
        assert await well.ask() == "b x"
        b.silent = True
        waiting.writer.write(b"lost\n")
        await asyncio.sleep(0.4)
        b.silent = False
        here.proxy.avoid(frozenset("c"))
        assert await waiting.ended()
        assert await well.ask() == "b x"


async def test_what_was_asked_just_before_a_host_was_lost_waits_little_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It went to etcd's leader as well; what is asked afterwards reaches the next one."""
    monkeypatch.setattr(etcd_proxy, "ANSWER_S", 60.0)
    b = FakeVoter("b")
    async with town(b, FakeVoter("c")) as here:
        before, after = await here.client(), await here.client()
        assert [await one.ask() for one in (before, after)] == ["b x", "b x"]
        b.silent = True
        before.writer.write(b"lost\n")
        await asyncio.sleep(0.05)
        here.proxy.avoid(frozenset("a"))
        await asyncio.sleep(0.05)
        after.writer.write(b"kept\n")
        assert await before.ended()
        await asyncio.sleep(2 * etcd_proxy.LONG_S)
        b.writers[-1].write(b"at last\n")
        async with asyncio.timeout(SOON_S):
            assert await after.reader.readline() == b"at last\n"


async def test_what_is_asked_while_the_voters_elect_is_passed_on_when_they_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sooner it would be lost, and nobody would say so."""
    monkeypatch.setattr(etcd_proxy, "ELECT_S", 1.0)
    a, b = FakeVoter("a"), FakeVoter("b")
    async with town(b, a) as here:
        client = await here.client()
        assert await client.ask() == "b x"
        b.silent = True
        here.proxy.avoid(frozenset("a"))
        asking = asyncio.create_task(client.ask("later"))
        await asyncio.sleep(0.1)
        b.silent = False
        assert await asking == "b later"


async def test_all_go_over_to_a_better_voter_in_a_quiet_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while one is owed an answer, and not before it has been the better one for a while."""
    monkeypatch.setattr(etcd_proxy, "BETTER_S", 0.5)
    a, b = FakeVoter("a"), FakeVoter("b")
    async with town(a, b) as here:
        watching, asking = await here.client(), await here.client()
        assert await watching.ask() == "a x"
        b_is_better = time.monotonic()
        here.listed.reverse()
        a.silent = True
        asking.writer.write(b"slow\n")
        await asyncio.sleep(0.7)
        a.writers[-1].write(b"at last\n")
        async with asyncio.timeout(SOON_S):
            assert await asking.reader.readline() == b"at last\n"
        assert await watching.ended()
        assert time.monotonic() - b_is_better >= 0.7
        assert await (await here.client()).ask() == "b x"


async def test_a_connection_that_waits_for_news_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It owes nothing: it has been answered."""
    monkeypatch.setattr(etcd_proxy, "ANSWER_S", 0.1)
    async with town(FakeVoter("a"), FakeVoter("b")) as here:
        client = await here.client()
        assert await client.ask() == "a x"
        await asyncio.sleep(0.5)
        assert await client.ask("still") == "a still"


async def test_the_only_voter_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nobody better to ask."""
    monkeypatch.setattr(etcd_proxy, "ANSWER_S", 0.1)
    a = FakeVoter("a", silent=True)
    async with town(a) as here:
        client = await here.client()
        client.writer.write(b"slow\n")
        await asyncio.sleep(0.6)
        a.writers[0].write(b"at last\n")
        async with asyncio.timeout(SOON_S):
            assert await client.reader.readline() == b"at last\n"


async def test_connections_to_a_host_that_votes_no_more_end() -> None:
    a, b = FakeVoter("a"), FakeVoter("b")
    async with town(a, b) as here:
        client = await here.client()
        assert await client.ask() == "a x"
        here.listed.remove(a)
        assert await client.ended()
        assert await (await here.client()).ask() == "b x"


async def test_without_any_voter_connections_end_at_once() -> None:
    async with town() as here:
        assert await (await here.client()).ended()


async def test_a_client_that_has_said_all_still_hears_the_answer() -> None:
    """Half-close: the end of one direction is passed on, the other goes on."""
    async with town(FakeVoter("a")) as here:
        client = await here.client()
        client.writer.write(b"x\n")
        client.writer.write_eof()
        async with asyncio.timeout(SOON_S):
            assert await client.reader.read() == b"a x\nend\n"


async def test_much_is_passed_on_whole() -> None:
    """More than any buffer holds, both ways at once."""
    line = "y" * 60_000
    async with town(FakeVoter("a")) as here:
        client = await here.client()

        async def say() -> None:
            for _ in range(100):
                client.writer.write(line.encode() + b"\n")
                await client.writer.drain()
            client.writer.write_eof()

        async with asyncio.timeout(30):
            _, heard = await asyncio.gather(say(), client.reader.read())
    assert heard == f"a {line}\n".encode() * 100 + b"end\n"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a client waits until its words are acknowledged")
async def test_a_request_in_two_parts_is_not_held_up() -> None:
    """Patroni's are, with Nagle's algorithm: the second part of each waited 40 ms for its first to be acknowledged."""
    took = []
    async with town(FakeVoter("a")) as here:
        client = await here.client()
        client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        for _ in range(30):
            started = time.monotonic()
            client.writer.write(b"x")
            assert await client.ask() == "a xx"
            took.append(time.monotonic() - started)
    assert statistics.median(took) < 0.02


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_proxy, "CONNECTIONS", 2)
    async with town(FakeVoter("a")) as here:
        first, second = await here.client(), await here.client()
        assert [await first.ask(), await second.ask()] == ["a x", "a x"]
        assert await (await here.client()).ended()
        first.writer.close()
        async with asyncio.timeout(SOON_S):
            while await (await here.client()).ask() != "a x":
                await asyncio.sleep(0.05)
