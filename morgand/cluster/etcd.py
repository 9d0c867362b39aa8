"""A client of etcd's JSON gateway: every voter, a short deadline each, the first answer wins.

A voter that has lost its leader holds a request for 7 s before it says so; hence 400 ms for each, and the next voter is
asked when one has not answered in 100 ms: more where answers take longer (``Pace``), or the request is long. So
requests must bear being sent more than once (``call``); those that do not are sent to one voter after another
(``once``), and their caller looks again when it got no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import msgspec

from morgand.base.errors import Conflict, Unavailable
from morgand.cluster import etcd_wire as wire
from morgand.cluster.etcd_wire import EtcdMember, EtcdStatus, Unreached
from morgand.cluster.pace import Pace

T = TypeVar("T")
Body = Mapping[str, Any] | msgspec.Raw  # Raw: encoded already

PATIENCE_S = 3.0  # for a whole call
BYTES_A_SECOND = 500_000  # a long request is given time for its length, too
ELECTED_S = 1.5  # an election among the voters takes 1.3 s: whoever does not answer by then is slow
ROUND_PAUSE_S = 0.05
AT_ONCE = 2  # copies of one request at one voter
CHANGE_DEADLINE_S = 2.0  # a change of the voters waits until they agree
ANSWER_LIMIT = 64 * 2**20
CONNECTIONS = 16  # to one voter


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a voter listens to clients; it must show the certificate of that host, whatever its address is."""

    url: str
    host_id: str


class EtcdClient:
    """``endpoints`` is asked at every call: voters come and go. Without ``tls`` the URLs are plain HTTP.

    etcd 3.4 speaks TLS 1.2 and nothing newer: the context must allow it.
    """

    def __init__(self, endpoints: Callable[[], Sequence[Endpoint]], tls: ssl.SSLContext | None, *, name: str) -> None:
        self.name = name
        self._endpoints = endpoints
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._pace = Pace()
        self._preferred = ""  # the host that answered last
        self._closed = False

    def ordered(self) -> list[Endpoint]:
        """The voters, the one that answered last first. Raises Unavailable when none is known."""
        found = list(self._endpoints())
        if not found:
            raise Unavailable("No voter of the cluster is known.", remedy="Join the cluster again.")
        return sorted(found, key=lambda one: one.host_id != self._preferred)

    async def call(self, path: str, body: Mapping[str, Any], kind: type[T]) -> T:
        """Ask one voter after the other, each a little after the one before, round and round, until one answers.

        The rounds do not wait for the deadlines: a request that reached a voter just before its leader died is lost,
        and only a new one gets through. Raises Unavailable after PATIENCE_S, and at once what no voter would answer
        differently.
        """
        content = msgspec.json.encode(body)
        long_s = len(content) / BYTES_A_SECOND
        running = dict[asyncio.Task[T], Endpoint]()
        reason = ""
        slow = asyncio.get_running_loop().call_later(ELECTED_S + long_s, self._pace.missed)
        try:
            async with asyncio.timeout(PATIENCE_S + long_s):
                while True:
                    for endpoint in self.ordered():
                        if list(running.values()).count(endpoint) < AT_ONCE:
                            asking = self.ask(endpoint, path, msgspec.Raw(content), kind, long_s=long_s)
                            running[asyncio.create_task(asking)] = endpoint
                        done, _ = await asyncio.wait(
                            running, timeout=self._pace.stagger_s + long_s, return_when=asyncio.FIRST_COMPLETED
                        )
                        for task in done:
                            answered = running.pop(task)
                            try:
                                answer = task.result()
                            except Unreached as err:
                                reason = err.message
                            else:
                                self._preferred = answered.host_id
                                return answer
                    await asyncio.sleep(ROUND_PAUSE_S)
        except TimeoutError as err:
            raise self._unavailable(reason) from err
        finally:
            slow.cancel()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def once(self, path: str, body: Mapping[str, Any], kind: type[T]) -> T:
        """Ask one voter after another. Without an answer it is not known whether the request was performed."""
        reason = ""
        for endpoint in self.ordered():
            try:
                return await self.ask(endpoint, path, body, kind, deadline_s=CHANGE_DEADLINE_S)
            except Unreached as err:
                reason = err.message
        raise self._unavailable(reason)

    async def ask(
        self, endpoint: Endpoint, path: str, body: Body, kind: type[T], *, deadline_s: float | None = None,
        long_s: float = 0.0,
    ) -> T:  # fmt: skip
        """Ask one voter. Raises Unreached when another may do better, also when it takes longer than answers do.

        ``long_s``: what its length may take beside that.
        """
        clock = asyncio.get_running_loop().time
        asked, within_s = clock(), deadline_s or self._pace.deadline_s + long_s
        try:
            async with asyncio.timeout(within_s), self._post(endpoint, path, body) as response:
                content = await _all_of(response)
        except (TimeoutError, aiohttp.ClientError, OSError) as err:
            raise _unreached(endpoint, err) from err
        if response.status != 200:
            raise wire.fault(response.status, content)
        if deadline_s is None:
            self._pace.took(max(clock() - asked - long_s, 0.0))
        return wire.decode(kind, content)

    @contextlib.asynccontextmanager
    async def stream(self, endpoint: Endpoint, path: str, body: Mapping[str, Any]) -> AsyncIterator[LineStream]:
        """An answer without end, line by line. Raises Unreached, also from within the lines."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._pace.deadline_s):
                    response = await stack.enter_async_context(self._post(endpoint, path, body))
                    if response.status != 200:
                        raise wire.fault(response.status, await _all_of(response))
            except (TimeoutError, aiohttp.ClientError, OSError) as err:
                raise _unreached(endpoint, err) from err
            stack.callback(response.close)  # it never ends: its connection cannot be used again
            yield LineStream(endpoint, response.content)

    async def members(self) -> tuple[EtcdMember, ...]:
        return (await self.call("cluster/member/list", {}, wire.MemberList)).members

    async def status(self, endpoint: Endpoint) -> EtcdStatus:
        """What one member says of itself; a learner answers this too. Raises Unreached."""
        return await self.ask(endpoint, "maintenance/status", {}, EtcdStatus)

    async def add_member(self, peer_url: str, *, learner: bool) -> EtcdMember:
        """Raises Conflict when etcd refuses: a learner is there already, or not all voters have been well for 5 s."""
        body = {"peerURLs": [peer_url], "isLearner": learner}
        member = (await self.once("cluster/member/add", body, wire.MemberList)).member
        if member is None:
            raise Conflict("etcd did not name the member it added.")
        return member

    async def promote(self, member_id: int) -> None:
        """Raises Conflict while the learner is behind."""
        await self.once("cluster/member/promote", {"ID": str(member_id)}, wire.MemberList)

    async def remove(self, member_id: int) -> None:
        await self.once("cluster/member/remove", {"ID": str(member_id)}, wire.MemberList)

    async def readdress(self, member_id: int, peer_url: str) -> None:
        """A voter's address has changed."""
        await self.once("cluster/member/update", {"ID": str(member_id), "peerURLs": [peer_url]}, wire.MemberList)

    async def transfer_leadership(self, leader: Endpoint, to: int) -> None:
        """``leader`` is the voter that leads etcd now: no other one can hand over. Raises Conflict, Unreached."""
        body = {"targetID": str(to)}
        await self.ask(leader, "maintenance/transfer-leadership", body, wire.Nothing, deadline_s=CHANGE_DEADLINE_S)

    async def close(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _post(
        self, endpoint: Endpoint, path: str, body: Body
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        if self._closed:
            raise Unavailable("The cluster store is closed.")
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, limit_per_host=CONNECTIONS)
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        name = f"{endpoint.host_id}.morgan" if self._tls is not None else None
        content = io.BytesIO(msgspec.json.encode(body))  # aiohttp warns of long bodies that come as bytes
        return self._session.post(
            f"{endpoint.url}/v3/{path}", data=content, ssl=self._tls or True, server_hostname=name
        )

    def _unavailable(self, reason: str) -> Unavailable:
        hosts = ", ".join(one.host_id for one in self._endpoints())
        return Unavailable(
            f"The cluster store does not answer. {reason}".rstrip(),
            remedy=f"More than half of its voters must be on: {hosts}.",
        )


class LineStream:
    """The lines of a stream."""

    def __init__(self, endpoint: Endpoint, content: aiohttp.StreamReader) -> None:
        self._endpoint, self._content, self._rest = endpoint, content, bytearray()

    async def next(self, within_s: float) -> bytes | None:
        """The next line; None when there was none in time. Raises Unreached when the stream ends."""
        while (end := self._rest.find(b"\n")) < 0:
            try:
                async with asyncio.timeout(within_s):
                    chunk = await self._content.readany()
            except TimeoutError:
                return None
            except (aiohttp.ClientError, OSError) as err:
                raise _unreached(self._endpoint, err) from err
            if not chunk or len(self._rest) + len(chunk) > ANSWER_LIMIT:
                raise Unreached(f"{self._endpoint.host_id} ended the stream.")
            self._rest += chunk
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line


async def _all_of(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > ANSWER_LIMIT:
            raise Unreached("The answer is too long.")
    return bytes(content)


def _unreached(endpoint: Endpoint, err: Exception) -> Unreached:
    reason = "did not answer in time" if isinstance(err, TimeoutError) else f"cannot be reached: {err}"
    return Unreached(f"{endpoint.host_id} {reason}.")
