"""Who is here, as gossip has it: the agent is kept running, its list of members kept in step.

The event stream drops what nobody reads in time and comes late by seconds, so it is only the sign to look: what counts
is the list, read after every event, after every connection and every few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from morgand.base.clock import Clock
from morgand.base.errors import MorganError, Unavailable
from morgand.gossip import agent
from morgand.gossip.agent import Place
from morgand.gossip.serf import KEYS_S, LEAVE_S, Record, SerfClient
from morgand.state.hosts import Member, MemberStatus
from morgand.state.roles import RoleState

log = logging.getLogger("morgand.gossip")

LOOK_EVERY_S = 2.0
PAUSE_S = 0.5
CONFIG_RETRY_S = 5.0
EVENTS = "member-join,member-leave,member-failed,member-update,member-reap,query"
ANSWER_S = 2.0
ANSWERING = 16  # questions at a time; more are not answered

Probe = Callable[[], Awaitable[bool]]
Report = Callable[[RoleState, str | None], None]
Answer = Callable[[bytes], Awaitable[bytes]]
Keep = Callable[[str, tuple[str, ...], Probe, Report], Coroutine[Any, Any, None]]


class GossipMembership:
    """``run`` until cancelled. ``members`` holds everybody gossip knows, this host included."""

    def __init__(self, place: Place, keep: Keep, seeds: Callable[[], Sequence[str]], clock: Clock) -> None:
        self._place, self._keep, self._seeds, self._clock = place, keep, seeds, clock
        self._client: SerfClient | None = None
        self._tags: dict[str, str] = {}
        self._members: dict[str, Member] = {}
        self._rpc_port, self._rpc_key = 0, ""
        self._answers: dict[str, Answer] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._agent: asyncio.Task[None] | None = None

    def members(self) -> Mapping[str, Member]:
        return self._members

    async def run(self) -> None:
        """Raises EngineError when Serf is not installed."""
        self._rpc_port, self._rpc_key = _free_port(), secrets.token_hex(16)
        config = agent.agent_config(
            self._place, rpc_port=self._rpc_port, rpc_key=self._rpc_key, seeds=list(self._seeds())
        )
        while True:
            try:
                await asyncio.to_thread(agent.write_config, self._place, config)
                break
            except OSError as err:  # gossip is a hint: this host does without it until there is space
                log.warning("gossip not started", extra={"reason": err.strerror})
                await self._clock.sleep(CONFIG_RETRY_S)
        async with asyncio.TaskGroup() as group:
            self._agent = group.create_task(self._keep("serf", agent.argv(self._place), self._is_up, _say))
            group.create_task(self._follow())

    async def set_tags(self, tags: Mapping[str, str]) -> None:
        """What this host says of itself; said again whenever the agent is new."""
        self._tags = dict(tags)
        if self._client is not None:
            me = self._members.get(self._place.host)
            gone = sorted(me.tags.keys() - self._tags.keys()) if me else []
            with contextlib.suppress(Unavailable):
                await self._client.call("tags", {"Tags": self._tags, "DeleteTags": gone})

    def answer(self, name: str, handler: Answer) -> None:
        """Answer questions of this name from any member, with about 900 bytes at most."""
        self._answers[name] = handler

    async def join(self, addresses: Sequence[str]) -> None:
        """Make hosts known to the agent. Those that do not answer are tried again by nobody: it is a hint."""
        if self._client is not None and addresses:
            with contextlib.suppress(Unavailable):
                await self._client.join(addresses)

    async def ask(self, name: str, payload: bytes, timeout_s: float) -> dict[str, bytes]:
        """Ask every member; the answers by host, of those that answer in time. Works without a quorum.

        Raises Unavailable.
        """
        return await self._connected().query(name, payload, timeout_s)

    async def forget(self, host: str) -> None:
        """A host that was removed is not waited for."""
        async with self._apart() as client:
            await client.call("force-leave", {"Node": host, "Prune": True}, deadline_s=LEAVE_S)

    async def rotate_key(self, key: str) -> None:
        """Make ``key`` (32 bytes, base64) the one that encrypts, and forget all others, on every member there is."""
        async with self._apart() as client:
            listed = await client.call("list-keys", deadline_s=KEYS_S)
            await client.call("install-key", {"Key": key}, deadline_s=KEYS_S)
            await client.call("use-key", {"Key": key}, deadline_s=KEYS_S)
            for old in listed.get(b"Keys", {}):
                if old.decode() != key:
                    await client.call("remove-key", {"Key": old.decode()}, deadline_s=KEYS_S)

    async def leave(self) -> None:
        """Say goodbye, so that nobody looks for this host. The agent ends and is not started again."""
        with contextlib.suppress(Unavailable):
            async with self._apart() as client:
                await client.call("leave", deadline_s=LEAVE_S)
        if self._agent is not None:
            self._agent.cancel()

    @contextlib.asynccontextmanager
    async def _apart(self) -> AsyncIterator[SerfClient]:
        """A connection of its own for what takes seconds: the agent does one thing at a time on each."""
        client = await SerfClient.connect(self._rpc_port, self._rpc_key)
        try:
            yield client
        finally:
            await client.close()

    def _connected(self) -> SerfClient:
        if self._client is None:
            raise Unavailable("Gossip is not running yet.", retry_after_s=1.0)
        return self._client

    async def _is_up(self) -> bool:
        try:
            client = await SerfClient.connect(self._rpc_port, self._rpc_key)
        except Unavailable:
            return False
        await client.close()
        return True

    async def _follow(self) -> None:
        while True:
            try:
                self._client = await SerfClient.connect(self._rpc_port, self._rpc_key)
                await self.set_tags(self._tags)
                await self._watch(self._client)
            except Unavailable as err:
                log.debug("gossip is read again", extra={"reason": err.message})
            finally:
                for task in self._answering:
                    task.cancel()
                client, self._client = self._client, None
                if client is not None:
                    await client.close()
            await self._clock.sleep(PAUSE_S)

    async def _watch(self, client: SerfClient) -> None:
        async with client.stream(EVENTS) as event:
            while True:
                self._take(merge(await client.members()))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        while (record := await event()).get(b"Event") == b"query":
                            self._asked(client, record)

    def _asked(self, client: SerfClient, record: Record) -> None:
        handler = self._answers.get(record[b"Name"].decode(errors="replace"))
        if handler is not None and len(self._answering) < ANSWERING:
            task = asyncio.create_task(_respond(client, record, handler))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    def _take(self, found: dict[str, Member]) -> None:
        for host, member in found.items():
            before = self._members.get(host)
            if before is None or before.status is not member.status:
                log.info("member", extra={"host": host, "status": member.status.value, "address": member.address})
        self._members = found


async def _respond(client: SerfClient, record: Record, handler: Answer) -> None:
    try:
        async with asyncio.timeout(ANSWER_S):
            await client.respond(record[b"ID"], await handler(record[b"Payload"] or b""))
    except (MorganError, TimeoutError) as err:  # too long, too late: who asked does without
        log.warning("a question to the cluster was not answered", extra={"reason": str(err) or "too slow"})


def merge(listed: Sequence[Record]) -> dict[str, Member]:
    """The members in the agent's answer, by host; what cannot be read is left out."""
    found = {}
    for record in listed:
        with contextlib.suppress(KeyError, ValueError, UnicodeDecodeError, AttributeError):
            host = record[b"Name"].decode()
            address = ipaddress.ip_address(record[b"Addr"])
            mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
            tags = {key.decode(): value.decode() for key, value in record[b"Tags"].items()}
            found[host] = Member(host, str(mapped or address), MemberStatus(record[b"Status"].decode()), tags)
    return found


def _say(state: RoleState, detail: str | None) -> None:
    if detail:
        log.warning("gossip agent", extra={"state": state.value, "reason": detail})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
