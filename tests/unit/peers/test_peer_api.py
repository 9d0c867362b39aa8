"""Hosts that call each other over TLS: who is answered, under which epoch, and what a silent one costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from morgand.api.peer import PeerApi, refuse
from morgand.clock import SystemClock
from morgand.errors import EngineError, Fenced, InvalidInput, MorganError, Unauthorized, Unavailable
from morgand.peers import wire
from morgand.peers.client import PeerClient
from morgand.peers.wire import Export
from morgand.ports import Chat, ChatDelta, ChatInfo, ChatMessage, ChatOptions, Embedder, Objects
from morgand.roles.objects.store import FolderObjects
from morgand.security import ca, trust
from morgand.state import Assignment

AUTHORITY = ca.make_authority("home", datetime.now(UTC))
STRANGER = ca.make_authority("other", datetime.now(UTC))
EMBED = wire.signature_of(Embedder, "embed_query")
STREAM = wire.signature_of(Chat, "stream")
TALK = wire.pack_arguments(STREAM, ([ChatMessage("user", "Hi")], ChatOptions()), {})


def credentials(folder: Path, host: str, authority: ca.Authority = AUTHORITY, cluster: str = "home") -> Path:
    """The files of a host that was let in."""
    now, key = datetime.now(UTC), ca.make_key()
    certificate = ca.sign(
        authority, ca.make_request(key, host), host_id=host, cluster_id=cluster, addresses=("127.0.4.1",), now=now
    )
    trust.install(folder / host, ca_pem=authority.cert_pem, cert_pem=certificate, key_pem=key)
    trust.write_private(folder / host / trust.CRL, ca.revocation_list(authority, (), now))
    return folder / host


class Engine:
    """Embeds by saying what it was given; fails and dawdles when told to."""

    def __init__(self) -> None:
        self.error: MorganError | None = None
        self.cancelled = asyncio.Event()

    async def model(self) -> str:
        return "toy"

    async def embed_query(self, text: str) -> bytes:
        if self.error is not None:
            raise self.error
        if text == "slow":
            await asyncio.sleep(1.5)
        return text.encode()

    async def embed_passages(self, texts: Sequence[str]) -> list[bytes]:
        return [await self.embed_query(text) for text in texts]

    async def info(self) -> ChatInfo:
        return ChatInfo("toy", 1, 1, small=True)

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]

    async def stream(self, messages: Sequence[ChatMessage], options: ChatOptions) -> AsyncIterator[ChatDelta]:
        try:
            yield ChatDelta("one")
            if self.error is not None:
                raise self.error
            await asyncio.sleep(0.01 if messages[0].content == "Hi" else 60)
            yield ChatDelta("", "stop", 1, 2)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise


@dataclass
class Served:
    """A host's API on an address of its own."""

    engine: Engine
    address: str
    held: dict[str, Assignment] = field(default_factory=dict)
    members: set[str] = field(default_factory=lambda: {"a", "b"})

    def client(self, folder: Path) -> PeerClient:
        return PeerClient(trust.client_context(folder), lambda _: self.address, SystemClock())


@asynccontextmanager
async def served(
    tmp_path: Path, wrap: Callable[[web.Application], web.Application] = lambda app: app
) -> AsyncIterator[Served]:
    engine, found = Engine(), Served(Engine(), "")
    found.engine = engine
    for role in ("embedder", "llm", "objects"):
        found.held[role] = Assignment(role, "main", "b", "toy", 5, "test")
    (tmp_path / "spool").mkdir()
    api = PeerApi(
        {
            "embedder": Export("embedder", Embedder, engine), "llm": Export("llm", Chat, engine),
            "objects": Export("objects", Objects, FolderObjects(tmp_path / "objects")),
        },
        held=found.held.get, member=lambda host: host in found.members, spool=tmp_path / "spool",
    )  # fmt: skip
    runner = web.AppRunner(wrap(api.app()), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    tls = trust.server_context(credentials(tmp_path, "b"), require_cert=False)
    site = web.TCPSite(runner, "127.0.4.1", 0, ssl_context=tls)
    await site.start()
    found.address = f"127.0.4.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        await runner.cleanup()


async def embed(client: PeerClient, text: str, *, epoch: int = 5, host: str = "b") -> object:
    return await client.call(host, "embedder", EMBED, wire.pack_arguments(EMBED, (text,), {}), epoch=epoch)


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
            for path in ("/peer/v1/alive", "/peer/v1/embedder/embed_query", "/peer/v1/objects/files/a"):
                async with session.get(f"https://{host.address}{path}") as response:
                    assert response.status in (401, 404, 405)
                    assert b"embed" not in await response.read()
        foreign = host.client(credentials(tmp_path / "foreign", "a", STRANGER, "other"))
        assert not await foreign.alive("b")
        await foreign.close()
        removed = host.client(credentials(tmp_path, "c"))
        with pytest.raises((Unauthorized, EngineError)):
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
    assert time.monotonic() - began < 4
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
        await asyncio.wait_for(host.engine.cancelled.wait(), 5)
        await client.close()


async def test_bad_calls_are_refused_in_words(tmp_path: Path) -> None:
    async with served(tmp_path) as host:
        client = host.client(credentials(tmp_path, "a"))
        with pytest.raises(InvalidInput, match="cannot be read"):
            await client.call("b", "embedder", EMBED, b"\xc1", epoch=5)
        with pytest.raises(InvalidInput, match="no port 'nothing'"):
            await client.call("b", "nothing", EMBED, b"\x91\xa1a", epoch=5)
        await client.close()
