"""The embedding stage of ingestion: full batches while there is work, never an engine that waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from morgand.assistant.rag.embed import BATCH, IN_FLIGHT, LINGER_S, EmbedJob, EmbedStage
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
    stage = EmbedStage(embedder, HandClock())
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
