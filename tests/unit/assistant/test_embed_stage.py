"""The embedding stage of ingestion: full batches while there is work, never an engine that waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from morgand.assistant.rag.embed import (
    BATCH,
    IN_FLIGHT,
    LINGER_S,
    LONG_S,
    SHORT_S,
    SMALLEST,
    Embedding,
    EmbedJob,
    EmbedStage,
    batch_size,
)
from morgand.base.errors import InvalidInput
from morgand.state.assistant import Chunk, Extracted, Level
from tests.fakes.storage import HandClock


class Held:
    """An embedder that answers when it is let."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.let = asyncio.Event()

    async def model(self) -> str:
        return "held"

    async def embed_query(self, text: str) -> bytes:
        return text.encode()

    async def embed_passages(self, texts: Sequence[str]) -> list[bytes]:
        self.sizes.append(len(texts))
        await self.let.wait()
        return [text.encode() for text in texts]


def work(name: str, texts: int) -> EmbedJob:
    chunks = tuple(Chunk(Level.FINE, index, 0, f"{name} {index}", 1, "") for index in range(texts))
    return EmbedJob(name, Extracted(name, "text/plain", chunks))


async def test_a_part_filled_batch_goes_before_the_engine_runs_out_of_work() -> None:
    """When no document follows, the rest goes behind the last full batch; what comes then waits for company."""
    embedder, source, sink = Held(), asyncio.Queue[EmbedJob](), asyncio.Queue[EmbedJob]()
    stage = EmbedStage(Embedding(embedder, HandClock()), HandClock())
    first, second, third = work("first", BATCH + 3), work("second", 5), work("third", 7)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(stage.batch(source, sink))]
        tasks += [group.create_task(stage.embed()) for _ in range(IN_FLIGHT)]
        await source.put(first)
        await asyncio.sleep(5 * LINGER_S)
        assert embedder.sizes == [BATCH, 3]
        await source.put(second)
        await asyncio.sleep(5 * LINGER_S)
        await source.put(third)
        await asyncio.sleep(5 * LINGER_S)
        assert embedder.sizes == [BATCH, 3]
        embedder.let.set()
        async with asyncio.timeout(10):
            for one in (first, second, third):
                await one.embedded.wait()
        assert embedder.sizes == [BATCH, 3, 12]
        for task in tasks:
            task.cancel()
    assert third.vectors == {f"third {index}": f"third {index}".encode() for index in range(7)}


@pytest.mark.parametrize(
    ("size", "took_s", "following"),
    [
        (BATCH, 0.0, BATCH),
        (BATCH, LONG_S, BATCH),
        (BATCH, LONG_S + 1, BATCH // 2),
        (SMALLEST, 10 * LONG_S, SMALLEST),
        (BATCH // 2, SHORT_S, BATCH // 2),
        (BATCH // 2, SHORT_S - 1, BATCH),
    ],
)
def test_an_engine_that_stands_back_gets_smaller_batches(size: int, took_s: float, following: int) -> None:
    assert batch_size(size, took_s) == following


class Choosy(Held):
    """Refuses a whole batch for one text in it, and has a defect that shows with another."""

    async def embed_passages(self, texts: Sequence[str]) -> list[bytes]:
        if "bad" in texts:
            raise InvalidInput
        if "worse" in texts:
            raise ZeroDivisionError
        return [text.encode() for text in texts]


async def test_a_text_that_is_refused_costs_no_other_its_embedding() -> None:
    texts = ["a", "bad", "c", "d", "worse", "f"]
    vectors = await Embedding(Choosy(), HandClock()).vectors(texts)
    assert vectors == [b"a", None, b"c", b"d", None, b"f"]
