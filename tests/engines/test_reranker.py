"""The reranker engine with the real model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from morgand.roles.reranker.client import EngineReranker
from tests.engines.spawn import CROSS_ENCODER, answering, refused

MODULE = "morgand.roles.reranker.engine"
pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reranker() -> AsyncIterator[EngineReranker]:
    async with answering("reranker", {"model": "ce", "model_dir": str(CROSS_ENCODER), "threads": 2}) as client:
        yield EngineReranker(client)


async def test_fitting_passage_scores_higher(reranker: EngineReranker) -> None:
    """Scores come in the order of the texts, and the answer scores above the rest."""
    texts = ["Bread is baked in an oven.", "Berlin has 3.6 million inhabitants."]
    other, fits = await reranker.scores("How many people live in Berlin?", texts, budget_s=5)
    assert fits is not None
    assert other is not None
    assert fits > other


async def test_budget(reranker: EngineReranker) -> None:
    """The first texts are scored; what the budget did not reach is None."""
    scores = await reranker.scores("words", ["word " * 400] * 200, budget_s=0.5)
    assert len(scores) == 200
    scored = [one is not None for one in scores]
    assert scored == sorted(scored, reverse=True)
    assert not scored[-1]


async def test_missing_model(tmp_path: Path) -> None:
    """A directory without a model ends the process with exit code 1 and one line naming it."""
    code, said = await refused(MODULE, {"model_dir": str(tmp_path)})
    assert code == 1
    assert str(tmp_path) in said
