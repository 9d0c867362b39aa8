"""The embedder engine: ONNX Runtime on a CPU, sentence-transformers where there is a GPU.

Mini-batches run side by side, each on one core: cores that work on one mini-batch together wait for each other whenever
another process takes one of them, which halved the speed of ingestion. Questions go before passages: on processors they
have threads of their own, for which those of passages stand back at once, as they do for every other engine that a
person waits for; on a GPU a waiting question is served as soon as a mini-batch ends.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import queue
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from morgand.base.errors import Overloaded
from morgand.process.nice import stand_back
from morgand.roles.embedder.wire import EmbedderInfoReply, EmbedReply, EmbedRequest
from morgand.roles.onnx import MAX_TOKENS, OnnxEncoder, mini_batches
from morgand.roles.process import Handler, serve

# by the beginning of a model's name; BGE's model card wants an instruction before questions, none before passages
QUERY_PREFIXES = {"bge-": "Represent this sentence for searching relevant passages: "}
MAX_WAITING = 1024  # mini-batches
PRIORITY = {"query": 0, "passage": 1}

# priority, request, number within the request, texts, and what takes their rows
Job = tuple[int, int, int, list[str], "Future[NDArray[np.float32]]"]


class EmbeddingModel(Protocol):
    """Blocking; ``cut`` says which texts to compute together."""

    dimension: int
    side_by_side: int  # how many calls of ``embed`` for passages may run at once
    overtaken: bool  # whether questions may be computed beside them

    def cut(self, texts: Sequence[str]) -> list[list[int]]: ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class OnnxEmbedder:
    """CLS pooling and unit length, as BGE wants it."""

    overtaken = True

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


class ComputeLine:
    """What waits for threads that compute it, in order."""

    def __init__(self, threads: int, *, back: bool) -> None:
        """``back``: its threads stand back for all others."""
        self.waiting: queue.PriorityQueue[Job] = queue.PriorityQueue()
        # no more threads than work side by side: each has memory of its own, which is warm when it is used again
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="embed", initializer=stand_back if back else None)


class Cores:
    """Computes mini-batches side by side: by priority, then by request, then by arrival.

    A core that has become free takes the next one by itself. Handed out by the event loop, as they arrive, they would
    leave it idle until the loop is awake, and two requests would be finished together with nothing behind them.
    """

    def __init__(self, model: EmbeddingModel) -> None:
        self._model = model
        self._request = itertools.count()
        passages = ComputeLine(model.side_by_side, back=model.overtaken)
        questions = ComputeLine(model.side_by_side, back=False) if model.overtaken else passages
        self._lines = {PRIORITY["passage"]: passages, PRIORITY["query"]: questions}

    async def embed(self, texts: Sequence[str], priority: int) -> list[bytes]:
        """Vectors in the order of the texts, as on the wire. Raises Overloaded when too much waits already."""
        batches = self._model.cut(texts)
        line = self._lines[priority]
        if line.waiting.qsize() + len(batches) > MAX_WAITING:
            raise Overloaded("The embedder has too much to do.", retry_after_s=2.0)
        request = next(self._request)
        computed = [Future[NDArray[np.float32]]() for _ in batches]
        for number, (batch, rows) in enumerate(zip(batches, computed, strict=True)):
            line.waiting.put((priority, request, number, [texts[index] for index in batch], rows))
            line.threads.submit(self._next, line)
        vectors: list[bytes] = [b""] * len(texts)
        for batch, found in zip(batches, await asyncio.gather(*map(asyncio.wrap_future, computed)), strict=True):
            for index, row in zip(batch, found.astype("<f4", copy=False), strict=True):
                vectors[index] = row.tobytes()
        return vectors

    def _next(self, line: ComputeLine) -> None:
        """In a thread: compute what is first in line by now. There is one call of this for each that waits."""
        *_, texts, rows = line.waiting.get()
        if rows.set_running_or_notify_cancel():
            try:
                rows.set_result(self._model.embed(texts))
            except Exception as err:  # noqa: BLE001 - whatever it is, whoever waits for the rows is told
                rows.set_exception(err)


class EmbedderEngine:
    """Handlers of the engine."""

    def __init__(self, model: EmbeddingModel, name: str) -> None:
        self._model = model
        self._name = name
        self._cores = Cores(model)
        self._prefix = next((text for begin, text in QUERY_PREFIXES.items() if name.startswith(begin)), "")

    async def embed(self, body: bytes) -> bytes:
        request = msgspec.msgpack.decode(body, type=EmbedRequest)
        prefix = self._prefix if request.kind == "query" else ""
        vectors = await self._cores.embed([prefix + text for text in request.texts], PRIORITY[request.kind])
        return msgspec.msgpack.encode(EmbedReply(self._model.dimension, vectors))

    async def info(self, _body: bytes) -> bytes:
        return msgspec.msgpack.encode(EmbedderInfoReply(self._name, self._model.dimension, MAX_TOKENS))


def load(options: dict[str, Any]) -> EmbeddingModel:
    """The model the options name. Blocking. Raises EngineError."""
    threads = options.get("threads") or os.cpu_count() or 1
    if options.get("engine") == "sentence-transformers":
        from morgand.roles.sentence import SentenceModel

        return SentenceModel(Path(options["model_dir"]))
    return OnnxEmbedder(Path(options["model_dir"]), threads)


async def build(options: dict[str, Any]) -> dict[str, Handler]:
    engine = EmbedderEngine(await asyncio.to_thread(load, options), options.get("model") or "embedder")
    return {"embed": engine.embed, "info": engine.info}


if __name__ == "__main__":
    serve(build)
