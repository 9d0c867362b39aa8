"""The vector index engine: one shard per level, searched together.

Writes go one after the other and are on disk when they return; searches run beside them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from morgand.base.errors import Overloaded
from morgand.roles.process import Handler, serve
from morgand.roles.vectors.shard import Shard
from morgand.roles.vectors.wire import (
    CountsReply,
    DeleteRequest,
    IndexDone,
    IndexInfoReply,
    IndexSearchReply,
    IndexSearchRequest,
    UpsertRequest,
    WirePoint,
)
from morgand.state.assistant import Level

MAX_LIMIT = 1000
SEARCH_THREADS = 4
MAX_SEARCHES = 64  # under way or waiting for a thread
MAX_WRITES = 32

ResultT = TypeVar("ResultT")


class VectorsEngine:
    """Handlers of the engine."""

    def __init__(self, shards: dict[Level, Shard], size: int) -> None:
        self._shards = shards
        self._size = size
        self._searchers = ThreadPoolExecutor(SEARCH_THREADS, thread_name_prefix="search")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._flushers = ThreadPoolExecutor(len(shards), thread_name_prefix="shard")
        self._searching = 0
        self._waiting_writes = 0

    async def upsert(self, body: bytes) -> bytes:
        request = msgspec.msgpack.decode(body, type=UpsertRequest)
        await self._write(lambda: self._upsert(request))
        return msgspec.msgpack.encode(IndexDone())

    async def delete(self, body: bytes) -> bytes:
        documents = msgspec.msgpack.decode(body, type=DeleteRequest).documents
        await self._write(lambda: self._delete(documents))
        return msgspec.msgpack.encode(IndexDone())

    async def search(self, body: bytes) -> bytes:
        if self._searching >= MAX_SEARCHES:
            raise Overloaded("The search index has too much to do.")
        request = msgspec.msgpack.decode(body, type=IndexSearchRequest)
        self._searching += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._searchers, self._search, request)
        finally:
            self._searching -= 1

    async def counts(self, _body: bytes) -> bytes:
        return await self._in_order(lambda: msgspec.msgpack.encode(CountsReply(self._counts())))

    async def info(self, _body: bytes) -> bytes:
        points = {level.value: shard.points() for level, shard in self._shards.items()}
        set_aside = [str(shard.set_aside) for shard in self._shards.values() if shard.set_aside]
        return msgspec.msgpack.encode(IndexInfoReply(self._size, points, set_aside))

    async def _write(self, work: Callable[[], object]) -> None:
        if self._waiting_writes >= MAX_WRITES:
            raise Overloaded("The search index has too much to write.")
        self._waiting_writes += 1
        try:
            await self._in_order(work)
        finally:
            self._waiting_writes -= 1

    async def _in_order(self, work: Callable[[], ResultT]) -> ResultT:
        """In the writer's thread, so that a count never sees half a write."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    def _upsert(self, request: UpsertRequest) -> None:
        """The shards side by side: most of a write is waiting for the disk."""
        by_level = {level: [one for one in request.points if one.level == level.value] for level in self._shards}
        list(self._flushers.map(lambda level: self._shards[level].upsert(by_level[level]), _used(by_level)))

    def _delete(self, documents: list[str]) -> None:
        for shard in self._shards.values():
            shard.delete(documents)

    def _search(self, request: IndexSearchRequest) -> bytes:
        limit = max(1, min(request.limit, MAX_LIMIT))
        reply = IndexSearchReply({}, {})
        for level, shard in self._shards.items():
            dense, keyword = shard.search(request.text, request.embedding, limit)
            reply.dense[level.value], reply.keyword[level.value] = dense, keyword
        return msgspec.msgpack.encode(reply)

    def _counts(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for shard in self._shards.values():
            total.update(shard.counts())
        return dict(total)


def _used(by_level: dict[Level, list[WirePoint]]) -> list[Level]:
    return [level for level, points in by_level.items() if points]


def open_shards(folder: Path, size: int) -> dict[Level, Shard]:
    """Blocking. Raises EngineError or StorageFull."""
    return {level: Shard(folder / level.value, level, size) for level in Level}


async def build(options: dict[str, Any]) -> dict[str, Handler]:
    size = int(options["size"])
    engine = VectorsEngine(await asyncio.to_thread(open_shards, Path(options["dir"]), size), size)
    return {
        "upsert": engine.upsert,
        "delete": engine.delete,
        "search": engine.search,
        "counts": engine.counts,
        "info": engine.info,
    }


if __name__ == "__main__":
    serve(build)
