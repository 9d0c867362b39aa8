"""The embedder engine: ONNX Runtime on a CPU, sentence-transformers where there is a GPU.

Mini-batches run side by side, each on one core: cores that work on one mini-batch together wait for each other whenever
another process takes one of them, which halved the speed of ingestion. Questions go before passages: as soon as a
mini-batch ends, a waiting question is served.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from morgand.errors import Overloaded
from morgand.roles.embedder.wire import EmbedReply, EmbedRequest, InfoReply
from morgand.roles.onnx import MAX_TOKENS, OnnxEncoder, mini_batches
from morgand.roles.process import Handler, serve

# by the beginning of a model's name; BGE's model card wants an instruction before questions, none before passages
QUERY_PREFIXES = {"bge-": "Represent this sentence for searching relevant passages: "}
MAX_WAITING = 256
PRIORITY = {"query": 0, "passage": 1}


class Model(Protocol):
    """Blocking; ``cut`` says which texts to compute together."""

    dimension: int
    side_by_side: int  # how many calls of ``embed`` may run at once

    def cut(self, texts: Sequence[str]) -> list[list[int]]: ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class OnnxModel:
    """CLS pooling and unit length, as BGE wants it."""

    def __init__(self, model_dir: Path, threads: int) -> None:
        self._encoder = OnnxEncoder(model_dir, threads=1)
        self.side_by_side = threads
        self.dimension = int(self.embed(["dimension"]).shape[1])

    def cut(self, texts: Sequence[str]) -> list[list[int]]:
        return list(mini_batches([min(len(text.encode()) // 4 + 2, MAX_TOKENS) for text in texts]))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        cls = self._encoder.run(self._encoder.encode(texts))[:, 0]
        unit: NDArray[np.float32] = cls / np.maximum(np.linalg.norm(cls, axis=1, keepdims=True), 1e-12)
        return unit


class Line:
    """Who is computed next: by priority, then by arrival; ``places`` at a time, at most MAX_WAITING in line."""

    def __init__(self, places: int = 1) -> None:
        self._waiting: asyncio.PriorityQueue[tuple[int, int, asyncio.Future[None]]] = asyncio.PriorityQueue(MAX_WAITING)
        self._ticket = itertools.count()
        self._free = places

    async def enter(self, priority: int) -> None:
        """Wait for one's turn. Raises Overloaded when the line is full."""
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((priority, next(self._ticket), turn))
        except asyncio.QueueFull as err:
            raise Overloaded("The embedder has too much to do.", retry_after_s=2.0) from err
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        while not self._waiting.empty():
            *_, turn = self._waiting.get_nowait()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Engine:
    """Handlers of the engine."""

    def __init__(self, model: Model, name: str) -> None:
        self._model = model
        self._name = name
        self._line = Line(model.side_by_side)
        # no more threads than work side by side: each has memory of its own, which is warm when it is used again
        self._threads = ThreadPoolExecutor(model.side_by_side, thread_name_prefix="embed")
        self._prefix = next((text for begin, text in QUERY_PREFIXES.items() if name.startswith(begin)), "")

    async def embed(self, body: bytes) -> bytes:
        request = msgspec.msgpack.decode(body, type=EmbedRequest)
        prefix = self._prefix if request.kind == "query" else ""
        texts = [prefix + text for text in request.texts]
        vectors: list[bytes] = [b""] * len(texts)
        batches = iter(self._model.cut(texts))

        async def work() -> None:
            for batch in batches:
                rows = await self._in_line([texts[index] for index in batch], PRIORITY[request.kind])
                for index, row in zip(batch, rows.astype("<f4", copy=False), strict=True):
                    vectors[index] = row.tobytes()

        await asyncio.gather(*(work() for _ in range(self._model.side_by_side)))
        return msgspec.msgpack.encode(EmbedReply(self._model.dimension, vectors))

    async def _in_line(self, texts: list[str], priority: int) -> NDArray[np.float32]:
        await self._line.enter(priority)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._model.embed, texts)
        finally:
            self._line.leave()

    async def info(self, _body: bytes) -> bytes:
        return msgspec.msgpack.encode(InfoReply(self._name, self._model.dimension, MAX_TOKENS))


def load(options: dict[str, Any]) -> Model:
    """The model the options name. Blocking. Raises EngineError."""
    threads = options.get("threads") or os.cpu_count() or 1
    if options.get("engine") == "sentence-transformers":
        from morgand.roles.sentence import SentenceModel

        return SentenceModel(Path(options["model_dir"]))
    return OnnxModel(Path(options["model_dir"]), threads)


async def build(options: dict[str, Any]) -> dict[str, Handler]:
    engine = Engine(await asyncio.to_thread(load, options), options.get("model") or "embedder")
    return {"embed": engine.embed, "info": engine.info}


if __name__ == "__main__":
    serve(build)
