"""The embedder engine with the real model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from morgand.roles.embedder.client import EngineEmbedder
from tests.engines.spawn import BGE, answering, refused

MODULE = "morgand.roles.embedder.engine"
pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]


def vector(raw: bytes) -> NDArray[np.float32]:
    return np.frombuffer(raw, "<f4")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def embedder() -> AsyncIterator[EngineEmbedder]:
    async with answering("embedder", {"model": "bge", "model_dir": str(BGE), "threads": 2}) as client:
        yield EngineEmbedder(client)


async def test_fitting_passage_is_nearer(embedder: EngineEmbedder) -> None:
    """The passage that answers lies nearer to the question than one that does not."""
    query = vector(await embedder.embed_query("How many people live in Berlin?"))
    fits, other = await embedder.embed_passages(["Berlin has 3.6 million inhabitants.", "Bread is baked in an oven."])
    assert float(query @ vector(fits)) > float(query @ vector(other)) + 0.1


async def test_alone_and_in_a_batch(embedder: EngineEmbedder) -> None:
    """Neighbours and padding do not change a text's vector."""
    text = "A short text."
    [alone] = await embedder.embed_passages([text])
    together = await embedder.embed_passages(["word " * 80, text, "other words " * 10])
    np.testing.assert_allclose(vector(alone), vector(together[1]), atol=0.02)
    assert abs(float(np.linalg.norm(vector(alone))) - 1) < 1e-3


async def test_a_question_does_not_wait_for_passages(embedder: EngineEmbedder) -> None:
    """A question that arrives during a large job is answered long before the job ends."""
    started = time.monotonic()
    job = asyncio.create_task(embedder.embed_passages(["word " * 150] * 96))
    await asyncio.sleep(0.3)
    asked = time.monotonic()
    await embedder.embed_query("hello")
    answered = time.monotonic() - asked
    await job
    assert answered < (time.monotonic() - started) / 2


async def test_missing_model(tmp_path: Path) -> None:
    """A directory without a model ends the process with exit code 1 and one line naming it."""
    code, said = await refused(MODULE, {"model_dir": str(tmp_path)})
    assert code == 1
    assert str(tmp_path) in said
    assert len(said.strip().splitlines()) == 1
