"""Hosts that freeze, vanish, stop in the middle, send too much or do not listen: a bounded wait, then an error."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import pytest

from morgand.base.clock import SystemClock
from morgand.base.errors import EngineError, NotFound, TooLarge, Unavailable
from morgand.peers import client as peer_client
from morgand.peers import wire
from morgand.peers.client import EPOCH, NotReached, PeerClient
from morgand.peers.watch import Watch, misses_after
from morgand.security import trust
from morgand.state.ports import Chat, ChatDelta, ChatInfo, ChatMessage, ChatOptions
from tests.fakes.peers import EMBED, STREAM, TALK, Engine, Served, credentials, embed, served

INFO = wire.signature_of(Chat, "info")

CHILD = """
import asyncio, sys
from pathlib import Path
from tests.fakes.peers import served

async def main():
    async with served(Path(sys.argv[1]), certificate=Path(sys.argv[2])) as host:
        print(host.address, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("misses", "answered", "took_s", "expected"),
    [(0, False, 0.5, 1), (1, False, 0.0, 2), (1, True, 0.4, 0), (1, False, 0.76, 1), (0, False, 9.0, 0)],
)
def test_misses_in_a_row(misses: int, answered: bool, took_s: float, expected: int) -> None:
    """A ping that took far over its deadline was held up here, and says nothing of the other host."""
    assert misses_after(misses, answered=answered, took_s=took_s) == expected


async def test_one_watch_asks_for_all_that_wait() -> None:
    """Fifty calls that wait cost one host as many signs of life as one call, and all of them end together."""
    asked: list[float] = []

    async def ping() -> bool:
        asked.append(time.monotonic())
        return len(asked) < 2

    watch = Watch("b", ping, SystemClock())

    async def wait() -> str:
        with watch.waiting() as lost:
            return await lost

    reasons = await asyncio.wait_for(asyncio.gather(*(wait() for _ in range(50))), 4)
    assert set(reasons) == {"Host b does not answer any more."}
    assert len(asked) == 3
    await watch.close()


async def test_nobody_is_asked_when_nobody_waits() -> None:
    asked: list[bool] = []

    async def ping() -> bool:
        asked.append(True)
        return True

    watch = Watch("b", ping, SystemClock())
    with watch.waiting():
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)
    assert asked == []
    await watch.close()


async def test_a_host_stopped_in_the_middle_of_a_call_ends_it(tmp_path: Path) -> None:
    """SIGSTOP while it works on a call: the call ends though its connection stays open."""
    argv = [sys.executable, "-c", CHILD, str(tmp_path / "child"), str(credentials(tmp_path, "b"))]
    (tmp_path / "child").mkdir()
    child = await asyncio.create_subprocess_exec(*argv, stdout=-1, cwd=Path(__file__).parents[3])
    assert child.stdout is not None
    address = (await asyncio.wait_for(child.stdout.readline(), 30)).decode().strip()
    client = PeerClient(trust.client_context(credentials(tmp_path, "a")), lambda _: address, SystemClock())
    try:
        assert await embed(client, "hello") == b"hello"
        calling = asyncio.ensure_future(embed(client, "forever"))
        await asyncio.sleep(0.7)
        os.kill(child.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer any more"):
            await calling
        assert time.monotonic() - began < 10
        assert client.suspect("b")
    finally:
        child.kill()
        await child.communicate()
        await client.close()


async def test_a_fenced_host_is_dropped_at_once(tmp_path: Path) -> None:
    async with served(tmp_path) as host:
        client = host.client(credentials(tmp_path, "a"))
        calling = asyncio.ensure_future(embed(client, "forever"))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await client.abort("b")
        with pytest.raises(Unavailable, match="was closed"):
            await calling
        assert time.monotonic() - began < 3
        assert await embed(client, "hello") == b"hello"  # a new connection, once somebody asks again
        await client.close()


async def test_a_caller_that_gives_up_ends_the_work_over_there(tmp_path: Path) -> None:
    async with served(tmp_path) as host:
        client = host.client(credentials(tmp_path, "a"))
        calling = asyncio.ensure_future(embed(client, "forever"))
        await asyncio.sleep(0.3)
        calling.cancel()
        await asyncio.wait_for(host.engine.cancelled.wait(), 30)
        await client.close()


async def test_many_waiting_calls_do_not_silence_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More calls than there are connections: the signs of life have their own, and nobody is given up."""
    monkeypatch.setattr(peer_client, "CONNECT_S", 30.0)  # this process does both ends of a hundred handshakes
    async with served(tmp_path) as host:
        client = host.client(credentials(tmp_path, "a"))
        answers = await asyncio.gather(*(embed(client, "slow") for _ in range(110)))
        assert set(answers) == {b"slow"}
        await client.close()


class Breaks(Engine):
    """Says a word, then has a defect or does not end."""

    def __init__(self, *, flood: bool = False) -> None:
        super().__init__()
        self._flood = flood

    async def stream(self, messages: Sequence[ChatMessage], options: ChatOptions) -> AsyncIterator[ChatDelta]:
        yield ChatDelta("one")
        while self._flood:
            yield ChatDelta("x" * 1_000_000)
        raise ValueError("a defect")

    async def info(self) -> ChatInfo:
        return ChatInfo("x" * 2_000_000, 1, 1, small=True)


async def test_a_stream_cut_in_the_middle_is_an_error(tmp_path: Path) -> None:
    """A defect over there ends the connection; what came until then is not taken for the whole answer."""
    async with served(tmp_path, engine=Breaks()) as host:
        client = host.client(credentials(tmp_path, "a"))
        stream = client.stream("b", "llm", STREAM, TALK, epoch=5)
        assert await anext(stream) == ChatDelta("one")
        with pytest.raises(Unavailable):
            await anext(stream)
        await client.close()


async def cut_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An answer that ends cleanly for HTTP, but without the frame that says so."""
    await reader.readuntil(b"\r\n\r\n")
    body = wire.frame(wire.ITEM, wire.pack(ChatDelta("one")))
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def test_a_stream_without_its_end_is_an_error(tmp_path: Path) -> None:
    tls = trust.server_context(credentials(tmp_path, "b"), require_cert=True)
    server = await asyncio.start_server(cut_off, "127.0.4.1", 0, ssl=tls)
    address = f"127.0.4.1:{server.sockets[0].getsockname()[1]}"
    client = PeerClient(trust.client_context(credentials(tmp_path, "a")), lambda _: address, SystemClock())
    stream = client.stream("b", "llm", STREAM, TALK, epoch=5)
    assert await anext(stream) == ChatDelta("one")
    with pytest.raises(Unavailable, match="in the middle of its answer"):
        await anext(stream)
    await client.close()
    server.close()
    await server.wait_closed()


async def test_what_is_too_much_is_refused_on_both_sides(tmp_path: Path) -> None:
    async with served(tmp_path, engine=Breaks(), body_bytes=100_000) as host:
        tls = trust.client_context(credentials(tmp_path, "a"))
        client = PeerClient(tls, lambda _: host.address, SystemClock(), answer_bytes=1_000_000)
        with pytest.raises(TooLarge, match="at most"):
            await embed(client, "x" * 200_000)
        with pytest.raises(EngineError, match="more than can be taken"):
            await client.call("b", "llm", INFO, wire.pack_arguments(INFO, (), {}), epoch=5)
        await client.close()


async def raw(host: Served, folder: Path, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection by hand, after ``request`` was sent on it."""
    tls: ssl.SSLContext = trust.client_context(credentials(folder, "a"))
    address, port = host.address.split(":")
    reader, writer = await asyncio.open_connection(
        address, int(port), ssl=tls, server_hostname="b.morgan", limit=1 << 12
    )
    writer.write(request)
    await writer.drain()
    return reader, writer


async def test_who_does_not_read_is_cut_off(tmp_path: Path) -> None:
    """A caller that froze in the middle of its answer does not hold the engine."""
    async with served(tmp_path, engine=Breaks(flood=True), move_s=0.3) as host:
        request = b"POST /peer/v1/llm/stream HTTP/1.1\r\nHost: b\r\n%s: 5\r\nContent-Length: %d\r\n\r\n" + TALK
        _, writer = await raw(host, tmp_path, request % (EPOCH.encode(), len(TALK)))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(100):
            await asyncio.sleep(0.1)
            if not host.api.serving:
                break
        assert host.api.serving == 0
        writer.transport.abort()
        await asyncio.sleep(0.05)


async def test_half_a_file_is_no_file(tmp_path: Path) -> None:
    """Whoever goes away in the middle of sending leaves nothing; so does one that stands still or sends too much."""
    async with served(tmp_path, file_bytes=1_000_000, move_s=0.3) as host:
        client = host.client(credentials(tmp_path, "a"))
        request = b"PUT /peer/v1/objects/files HTTP/1.1\r\nHost: b\r\n%s: 5\r\nContent-Length: 1000\r\n\r\nhalf"
        _, leaves = await raw(host, tmp_path, request % EPOCH.encode())
        leaves.transport.abort()
        _, stands = await raw(host, tmp_path, request % EPOCH.encode())
        (tmp_path / "big").write_bytes(b"x" * 1_500_000)
        with pytest.raises((TooLarge, Unavailable)):
            await client.send_file("b", "objects", tmp_path / "big", epoch=5)
        await asyncio.sleep(0.6)
        stands.transport.abort()
        objects = tmp_path / "objects"
        assert not objects.exists() or [one for one in objects.rglob("*") if one.is_file()] == []
        assert list((tmp_path / "spool").iterdir()) == []
        with pytest.raises(NotFound):
            await client.fetch_file("b", "objects", "aa/bb/" + "c" * 64, tmp_path / "back", epoch=5)
        assert not (tmp_path / "back").exists()
        await client.close()


async def test_a_host_that_is_not_there_was_asked_nothing(tmp_path: Path) -> None:
    """The difference matters for what must not be done twice."""
    tls = trust.client_context(credentials(tmp_path, "a"))
    for address in ("127.0.4.1:9", None):
        client = PeerClient(tls, lambda _, address=address: address, SystemClock())  # type: ignore[misc]
        with pytest.raises(NotReached):
            await client.call("b", "embedder", EMBED, wire.pack_arguments(EMBED, ("a",), {}), epoch=5)
        await client.close()


async def test_a_stranger_cannot_ask_for_more_than_the_handshake(tmp_path: Path) -> None:
    """Whatever the spelling of the path and whatever the method: 401 and not one byte."""
    async with served(tmp_path) as host:
        connector = aiohttp.TCPConnector(ssl=trust.blind_context())
        async with aiohttp.ClientSession(connector=connector) as session:
            for path in ("//peer/v1/alive", "/peer%2Fv1/alive", "/./peer/v1/alive", "/PEER/v1/alive", "/peer/v1"):
                for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
                    async with session.request(method, f"https://{host.address}{path}") as response:
                        assert (response.status, await response.read()) == (401, b"")
