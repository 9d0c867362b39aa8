"""A host's API for other hosts in this process: real TLS on a loopback address, toy engines behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from morgand.base import files
from morgand.base.clock import SystemClock
from morgand.base.errors import MorganError
from morgand.peers import wire
from morgand.peers.client import PeerClient
from morgand.peers.server import PeerServer
from morgand.peers.wire import Export
from morgand.roles.objects.store import FolderObjects
from morgand.security import ca, trust
from morgand.state.ports import Chat, ChatDelta, ChatInfo, ChatMessage, ChatOptions, Embedder, Objects
from morgand.state.roles import Assignment

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
    files.write_private(folder / host / trust.CRL, ca.revocation_list(authority, (), now))
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
        if text == "forever":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
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
    api: PeerServer
    address: str
    held: dict[str, Assignment]
    members: set[str]
    engaged: Engaged

    def client(self, folder: Path) -> PeerClient:
        return PeerClient(trust.client_context(folder), lambda _: self.address, SystemClock())


class Engaged:
    """May act for every role it holds."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def term(self, role: str) -> int | None:
        return 0

    def next(self) -> asyncio.Event:
        return self._changed


@asynccontextmanager
async def served(
    tmp_path: Path, *, engine: Engine | None = None, certificate: Path | None = None, objects: type = Objects,
    store: type[FolderObjects] = FolderObjects, **limits: Any,
) -> AsyncIterator[Served]:  # fmt: skip
    """The host "b", called boreas, which holds embedder, llm and objects in epoch 5; "a" is a member too. ``objects``:
    the port as this host's version knows it, over a ``store``."""
    engine = engine or Engine()
    held = {role: Assignment(role, "main", "b", "toy", 5, "test") for role in ("embedder", "llm", "objects")}
    members, engaged = {"a", "b"}, Engaged()
    (tmp_path / "spool").mkdir()
    api = PeerServer(
        {
            "embedder": Export("embedder", Embedder, engine),
            "embedder-copy": Export("embedder", Embedder, engine, frozenset({"embed_query"})),
            "llm": Export("llm", Chat, engine),
            "objects": Export("objects", objects, store(tmp_path / "objects")),
        },
        name="boreas", held=held.get, acting=engaged, member=members.__contains__, spool=tmp_path / "spool", **limits,
    )  # fmt: skip
    runner = web.AppRunner(api.app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    tls = trust.server_context(certificate or credentials(tmp_path, "b"), require_cert=False)
    await web.TCPSite(runner, "127.0.4.1", 0, ssl_context=tls).start()
    try:
        yield Served(engine, api, f"127.0.4.1:{runner.addresses[0][1]}", held, members, engaged)
    finally:
        await runner.cleanup()


async def embed(client: PeerClient, text: str, *, epoch: int = 5, host: str = "b") -> object:
    return await client.call(host, "embedder", EMBED, wire.pack_arguments(EMBED, (text,), {}), epoch=epoch)
