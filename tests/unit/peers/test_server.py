"""Hosts that call each other over TLS: who is answered, under which epoch, and what a silent one costs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from morgand.base.clock import SystemClock
from morgand.base.errors import EngineError, Fenced, InvalidInput, MorganError, Unavailable
from morgand.peers import wire
from morgand.peers.client import NotReached, PeerClient
from morgand.peers.server import refuse
from morgand.security import trust
from morgand.state.ports import ChatDelta, ChatMessage, ChatOptions, Embedder
from morgand.state.roles import Assignment
from tests.fakes.peers import EMBED, STRANGER, STREAM, TALK, credentials, embed, served


async def test_a_member_is_answered(tmp_path: Path) -> None:
    """Values, streams and files."""
    async with served(tmp_path) as host:
        client = host.client(credentials(tmp_path, "a"))
        assert await client.alive("b")
        assert await embed(client, "hello") == b"hello"
        items = [item async for item in client.stream("b", "llm", STREAM, TALK, epoch=5)]
        assert items == [ChatDelta("one"), ChatDelta("", "stop", 1, 2)]
        (tmp_path / "file").write_bytes(b"x" * 3_000_000)
        key = await client.send_file("b", "objects", tmp_path / "file", epoch=5)
        await client.fetch_file("b", "objects", key, tmp_path / "back", epoch=5)
        assert (tmp_path / "back").read_bytes() == b"x" * 3_000_000
        await client.close()


@pytest.mark.parametrize(
    ("own", "asked", "error"),
    [(None, 5, Fenced), (5, 4, Fenced), (5, 6, Unavailable), (5, 5, None)],
)
def test_only_the_very_epoch_is_served(own: int | None, asked: int, error: type[MorganError] | None) -> None:
    """An older one is refused for good; of a newer one this host will hear."""
    held = None if own is None else Assignment("llm", "main", "b", "toy", own, "test")
    found = refuse("llm", held, asked)
    assert type(found) is (error or type(None))


async def test_a_call_of_an_ended_epoch_is_fenced(tmp_path: Path) -> None:
    async with served(tmp_path) as host:
        client = host.client(credentials(tmp_path, "a"))
        with pytest.raises(Fenced, match="Epoch 4 of embedder has ended"):
            await embed(client, "hello", epoch=4)
        del host.held["embedder"]
        with pytest.raises(Fenced, match="does not hold embedder"):
            await embed(client, "hello")
        await client.close()


async def test_a_call_of_an_epoch_that_this_host_hears_of_in_a_moment_waits_for_it(tmp_path: Path) -> None:
    """The caller was told first, that is all."""
    async with served(tmp_path) as host:
        client = host.client(credentials(tmp_path, "a"))
        asking = asyncio.create_task(embed(client, "hello", epoch=6))
        await asyncio.sleep(0.1)
        host.held["embedder"] = replace(host.held["embedder"], epoch=6)
        host.engaged.tell()
        assert await asking == b"hello"
        with pytest.raises(Unavailable, match="has not heard of epoch 7"):
            await embed(client, "hello", epoch=7)
        await client.close()


async def test_errors_come_as_what_they_were(tmp_path: Path) -> None:
    async with served(tmp_path) as host:
        client = host.client(credentials(tmp_path, "a"))
        host.engine.error = InvalidInput("The text is too long.", remedy="Shorten it.")
        with pytest.raises(InvalidInput, match=r"too long\. Shorten it"):
            await embed(client, "hello")
        host.engine.error = EngineError("It broke.")
        stream = client.stream("b", "llm", STREAM, TALK, epoch=5)
        assert await anext(stream) == ChatDelta("one")
        with pytest.raises(EngineError, match="It broke"):
            await anext(stream)
        await client.close()


async def test_strangers_are_given_nothing(tmp_path: Path) -> None:
    """No certificate: a bare refusal. One of another cluster: no connection. A member that was removed: refused."""
    async with served(tmp_path) as host:
        blind = aiohttp.TCPConnector(ssl=trust.blind_context())
        async with aiohttp.ClientSession(connector=blind) as session:
            for path in (
                "/peer/v1/alive",
                "/peer/v1/embedder/embed_query",
                "/peer/v1/objects/files/a",
                "/",
                "/nothing",
            ):
                async with session.get(f"https://{host.address}{path}") as response:
                    assert response.status == 401
                    assert await response.read() == b""
                    assert "Server" not in response.headers
        foreign = host.client(credentials(tmp_path / "foreign", "a", STRANGER, "other"))
        assert not await foreign.alive("b")
        await foreign.close()
        removed = host.client(credentials(tmp_path, "c"))
        with pytest.raises(NotReached, match="does not take this host for a member"):
            await embed(removed, "hello")
        await removed.close()


async def test_a_host_cannot_pose_as_another(tmp_path: Path) -> None:
    """Whoever answers at the address of "z" must have the certificate of "z"."""
    async with served(tmp_path) as host:
        client = host.client(credentials(tmp_path, "a"))
        with pytest.raises(Unavailable):
            await embed(client, "hello", host="z")
        await client.close()


async def test_a_slow_engine_may_take_its_time(tmp_path: Path) -> None:
    """As long as the host itself answers."""
    async with served(tmp_path) as host:
        client = host.client(credentials(tmp_path, "a"))
        assert await embed(client, "slow") == b"slow"
        await client.close()


async def test_a_frozen_host_costs_a_bounded_wait(tmp_path: Path) -> None:
    """It accepts the connection and says nothing: given up after two missed signs of life, and suspected."""

    over = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.transport.abort()

    server = await asyncio.start_server(silent, "127.0.4.1", 0)
    address = f"127.0.4.1:{server.sockets[0].getsockname()[1]}"
    client = PeerClient(trust.client_context(credentials(tmp_path, "a")), lambda _: address, SystemClock())
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await embed(client, "hello")
    assert time.monotonic() - began < 15
    assert client.suspect("b")
    await client.close()
    over.set()
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.05)


async def test_leaving_a_stream_ends_the_work_over_there(tmp_path: Path) -> None:
    async with served(tmp_path) as host:
        client = host.client(credentials(tmp_path, "a"))
        talk = wire.pack_arguments(STREAM, ([ChatMessage("user", "for long")], ChatOptions()), {})
        stream = client.stream("b", "llm", STREAM, talk, epoch=5)
        assert await anext(stream) == ChatDelta("one")
        await stream.aclose()  # type: ignore[attr-defined]
        await asyncio.wait_for(host.engine.cancelled.wait(), 30)
        await client.close()


async def test_bad_calls_are_refused_in_words(tmp_path: Path) -> None:
    async with served(tmp_path) as host:
        client = host.client(credentials(tmp_path, "a"))
        with pytest.raises(InvalidInput, match="cannot be read"):
            await client.call("b", "embedder", EMBED, b"\xc1", epoch=5)
        with pytest.raises(InvalidInput, match="no port 'nothing'"):
            await client.call("b", "nothing", EMBED, b"\x91\xa1a", epoch=5)
        with pytest.raises(InvalidInput, match="no epoch was given"):
            await client.call("b", "embedder", EMBED, b"\x91\xa1a", epoch=10**19)
        await client.close()


async def test_a_copy_answers_in_no_epoch_and_only_what_is_a_read(tmp_path: Path) -> None:
    """Also on a host that holds the role no longer, or has not heard of the caller's epoch; but members only."""
    async with served(tmp_path) as host:
        client = host.client(credentials(tmp_path, "a"))
        host.held.clear()
        arguments = wire.pack_arguments(EMBED, ("a",), {})
        assert await client.call("b", "embedder-copy", EMBED, arguments, epoch=0) == b"a"
        model = wire.signature_of(Embedder, "model")
        with pytest.raises(InvalidInput, match="only read"):
            await client.call("b", "embedder-copy", model, wire.pack_arguments(model, (), {}), epoch=0)
        host.members.discard("a")
        with pytest.raises(NotReached):
            await client.call("b", "embedder-copy", EMBED, arguments, epoch=0)
        await client.close()
