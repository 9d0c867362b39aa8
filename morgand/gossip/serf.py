"""A small client of the Serf agent's RPC (hashicorp/serf, docs/agent/rpc): msgpack over TCP on loopback.

The agent speaks the old msgpack format, which has no text type: everything that is text comes as bytes. Requests carry
a sequence number, and answers come in any order, so one task reads and hands them out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgpack

from morgand.base.errors import Unavailable

DEADLINE_S = 3.0
KEYS_S, LEAVE_S = 15.0, 8.0  # the agent itself waits for all members, and for its word to spread
QUEUE = 1024  # records of a stream that nobody has read; the oldest are dropped, as the agent does
MAX_BYTES = 16 * 1024 * 1024

Record = dict[bytes, Any]
HEADER = {b"Seq", b"Error"}
BODIED = frozenset(
    {"members", "members-filtered", "join", "install-key", "use-key", "remove-key", "list-keys", "stats"}
)


class SerfClient:
    """One connection. When it breaks every call ends with Unavailable, and a new client is needed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._next = 0
        self._waiting: dict[int, tuple[bool, asyncio.Future[Record]]] = {}
        self._streams: dict[int, asyncio.Queue[Record]] = {}
        self._broken: str | None = None
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, port: int, key: str) -> SerfClient:
        """Connect to the agent on this host. Raises Unavailable."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except (OSError, TimeoutError) as err:
            raise Unavailable("The gossip agent is not running.") from err
        client = cls(reader, writer)
        try:
            await client.call("handshake", {"Version": 1})
            await client.call("auth", {"AuthKey": key})
        except Unavailable:
            await client.close()
            raise
        return client

    async def call(
        self, command: str, body: Mapping[str, Any] | None = None, *, deadline_s: float = DEADLINE_S
    ) -> Record:
        """One request; the body of its answer, empty where there is none. Raises Unavailable."""
        number = self._number()
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (command in BODIED, future)
        try:
            await self._send(number, command, body)
            async with asyncio.timeout(deadline_s):
                return await future
        except TimeoutError as err:
            raise Unavailable(f"The gossip agent did not answer '{command}' in time.") from err
        finally:
            self._waiting.pop(number, None)

    async def members(self) -> list[Record]:
        found = await self.call("members")
        return list(found.get(b"Members", ()))

    async def join(self, addresses: Sequence[str]) -> int:
        """How many of them could be joined."""
        found = await self.call("join", {"Existing": list(addresses), "Replay": False})
        return int(found.get(b"Num", 0))

    @contextlib.asynccontextmanager
    async def stream(self, kinds: str) -> AsyncIterator[Callable[[], Awaitable[Record]]]:
        """Events (``member-join,member-failed,...``): each call waits for the next one; it may be cancelled.

        Raises Unavailable when the agent ends.
        """
        async with self._opened("stream", {"Type": kinds}) as queue:
            yield lambda: self._record(queue)

    async def query(self, name: str, payload: bytes, timeout_s: float) -> dict[str, bytes]:
        """Ask every member; the answers that came in time, by host."""
        asked = {"Name": name, "Payload": payload, "RequestAck": False, "Timeout": int(timeout_s * 1e9)}
        found: dict[str, bytes] = {}
        with contextlib.suppress(TimeoutError):
            async with self._opened("query", asked) as queue, asyncio.timeout(timeout_s + DEADLINE_S):
                while (record := await self._record(queue)).get(b"Type") != b"done":
                    if (
                        record.get(b"Type") == b"response" and record[b"From"]
                    ):  # at the end comes one of nobody, at times
                        found[record[b"From"].decode(errors="replace")] = record[b"Payload"] or b""
        return found

    async def respond(self, query: int, payload: bytes) -> None:
        """Answer a query that came on a stream."""
        await self.call("respond", {"ID": query, "Payload": payload})

    @contextlib.asynccontextmanager
    async def _opened(self, command: str, body: Mapping[str, Any]) -> AsyncIterator[asyncio.Queue[Record]]:
        """A request that is answered by many records."""
        number = self._number()
        queue = self._streams[number] = asyncio.Queue(maxsize=QUEUE)
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (False, future)
        try:
            await self._send(number, command, body)
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await future
            except TimeoutError as err:
                raise Unavailable(f"The gossip agent did not answer '{command}' in time.") from err
            yield queue
        finally:
            self._streams.pop(number, None)
            self._waiting.pop(number, None)

    async def _record(self, queue: asyncio.Queue[Record]) -> Record:
        record = await queue.get()
        if not record:
            raise Unavailable(self._broken or "The gossip agent ended.")
        return record

    async def close(self) -> None:
        self._break("The connection to the gossip agent was closed.")
        self._reading.cancel()
        self._writer.close()
        await asyncio.gather(self._reading, return_exceptions=True)
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def _number(self) -> int:
        if self._broken:
            raise Unavailable(self._broken)
        self._next += 1
        return self._next

    async def _send(self, number: int, command: str, body: Mapping[str, Any] | None) -> None:
        data = msgpack.packb({"Command": command, "Seq": number}, use_bin_type=False)
        if body is not None:
            data += msgpack.packb(dict(body), use_bin_type=False)
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as err:
            raise Unavailable("The gossip agent is not running.") from err

    async def _read(self) -> None:
        """Every answer is a header, and a body where there is one."""
        unpacker = msgpack.Unpacker(raw=True, max_buffer_size=MAX_BYTES, strict_map_key=False)
        header: Record | None = None
        try:
            while data := await self._reader.read(65536):
                unpacker.feed(data)
                for item in unpacker:
                    header = self._take(header, item)
            self._break("The gossip agent closed the connection.")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, msgpack.UnpackException) as err:
            self._break(f"The gossip agent's answers cannot be read: {err}.")

    def _take(self, header: Record | None, item: Record) -> Record | None:
        """Hand out one object; returns the header whose body comes next.

        A refusal may come with or without a body, and the first record of a query may overtake its acknowledgement:
        what is a header is known by its looks.
        """
        if item.keys() != HEADER:
            if header is not None:
                self._deliver(header, item)
            return None
        bodied, future = self._waiting.get(item[b"Seq"], (False, None))
        if future is not None and not future.done() and (item[b"Error"] or not bodied):
            _settle(future, item[b"Error"], {})
        return item

    def _deliver(self, header: Record, body: Record) -> None:
        number = header[b"Seq"]
        _, future = self._waiting.get(number, (False, None))
        if future is not None and not future.done():
            _settle(future, header[b"Error"], body)
        elif number in self._streams:
            queue = self._streams[number]
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(body)

    def _break(self, reason: str) -> None:
        self._broken = self._broken or reason
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(Unavailable(self._broken))
        for queue in self._streams.values():
            if queue.full():
                queue.get_nowait()
            queue.put_nowait({})


def _settle(future: asyncio.Future[Record], error: bytes, body: Record) -> None:
    if error:
        future.set_exception(Unavailable(f"The gossip agent refused: {error.decode(errors='replace')}."))
    else:
        future.set_result(body)
