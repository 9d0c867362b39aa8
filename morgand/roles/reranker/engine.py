"""The reranker engine: a cross-encoder on ONNX Runtime, or sentence-transformers where there is a GPU.

Texts are scored in the order given, in mini-batches, until the caller's time budget is used up: the best candidates
come first, so what is left out matters least.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from morgand.base.errors import Overloaded
from morgand.roles.onnx import OnnxEncoder
from morgand.roles.process import Handler, serve
from morgand.roles.reranker.wire import RerankerInfoReply, ScoresReply, ScoresRequest

BATCH_TEXTS = 4  # the step in which the budget is looked at
MAX_WAITING = 64


class RankingModel(Protocol):
    """Blocking."""

    def scores(self, query: str, texts: Sequence[str]) -> list[float]: ...


class OnnxReranker:
    """A sequence-classification head with one output."""

    def __init__(self, model_dir: Path, threads: int) -> None:
        self._encoder = OnnxEncoder(model_dir, threads)
        self.scores("warm", ["up"])

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        logits = self._encoder.run(self._encoder.encode([(query, text) for text in texts]))
        return [float(row[0]) for row in logits]


class RerankerEngine:
    """Handlers of the engine."""

    def __init__(self, model: RankingModel, name: str) -> None:
        self._model = model
        self._name = name
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def scores(self, body: bytes) -> bytes:
        arrived = time.monotonic()
        request = msgspec.msgpack.decode(body, type=ScoresRequest)
        if self._waiting >= MAX_WAITING:
            raise Overloaded("The reranker has too much to do.", retry_after_s=2.0)
        scores: list[float | None] = []
        self._waiting += 1
        try:
            for first in range(0, len(request.texts), BATCH_TEXTS):
                async with self._turn:
                    if (time.monotonic() - arrived) * 1000 >= request.budget_ms:
                        break
                    texts = request.texts[first : first + BATCH_TEXTS]
                    scores += await asyncio.to_thread(self._model.scores, request.query, texts)
        finally:
            self._waiting -= 1
        return msgspec.msgpack.encode(ScoresReply(scores + [None] * (len(request.texts) - len(scores))))

    async def info(self, _body: bytes) -> bytes:
        return msgspec.msgpack.encode(RerankerInfoReply(self._name))


def load(options: dict[str, Any]) -> RankingModel:
    """The model the options name. Blocking. Raises EngineError."""
    if options.get("engine") == "sentence-transformers":
        from morgand.roles.sentence import SentenceReranker

        return SentenceReranker(Path(options["model_dir"]))
    return OnnxReranker(Path(options["model_dir"]), options.get("threads") or os.cpu_count() or 1)


async def build(options: dict[str, Any]) -> dict[str, Handler]:
    engine = RerankerEngine(await asyncio.to_thread(load, options), options.get("model") or "reranker")
    return {"scores": engine.scores, "info": engine.info}


if __name__ == "__main__":
    serve(build)
