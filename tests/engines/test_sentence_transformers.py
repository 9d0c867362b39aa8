"""The sentence-transformers engine with a small local model."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from morgand.roles.embedder.client import EngineEmbedder
from morgand.roles.process import EngineClient
from tests.engines.spawn import MINILM, engine

pytestmark = pytest.mark.engine


async def test_fitting_passage_is_nearer() -> None:
    """The engine loads without a network and puts the passage that answers first."""
    options = {"engine": "sentence-transformers", "model": "minilm", "model_dir": str(MINILM)}
    async with engine("morgand.roles.embedder.engine", options) as spawned:
        client = EngineClient(spawned.socket, "embedder")
        async with asyncio.timeout(300):
            while not await client.healthy():
                await asyncio.sleep(0.2)
        embedder = EngineEmbedder(client)
        query = np.frombuffer(await embedder.embed_query("How many people live in Berlin?"), "<f4")
        raw = await embedder.embed_passages(["Berlin has 3.6 million inhabitants.", "Bread is baked in an oven."])
        fits, other = (np.frombuffer(one, "<f4") for one in raw)
        await client.close()
    assert float(query @ fits) > float(query @ other)
