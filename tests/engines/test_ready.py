"""A role is ready when its engine has answered for real, with the real engines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from morgand.base.clock import SystemClock
from morgand.config import Config
from morgand.roles.base import HostContext, RoleService
from morgand.roles.embedder import service as embedder
from morgand.roles.llm import service as llm
from morgand.roles.models import find_model, load_models, locate
from morgand.roles.reranker import service as reranker
from morgand.roles.vectors import service as vectors
from morgand.state.roles import Assignment, Model, RoleState

pytestmark = pytest.mark.engine
Make = Callable[[HostContext, Assignment, Model | None], RoleService]
READY_S = 300.0


@pytest.mark.parametrize(
    ("make", "role", "engine", "model"),
    [
        (embedder.service, "embedder", "onnx", "bge-small-en-v1.5"),
        (reranker.service, "reranker", "onnx", "ms-marco-minilm-l-12-v2"),
        (vectors.service, "vectors", "qdrant-edge", None),
    ],
)
async def test_every_engine_proves_itself(
    tmp_path_factory: pytest.TempPathFactory, make: Make, role: str, engine: str, model: str | None
) -> None:
    assert await reported(make, tmp_path_factory.mktemp("r"), role, engine, model) == ["starting", "ready"]


async def test_the_language_model_is_ready_when_it_has_said_a_token(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nobody else asks it anything here."""
    folder = tmp_path_factory.mktemp("r")
    assert await reported(llm.service, folder, "llm", "llama.cpp", "smollm2-135m-instruct") == ["starting", "ready"]
    assert "eval time" in (folder / "logs/llm.log").read_text()


async def reported(make: Make, folder: Path, role: str, engine: str, name: str | None) -> list[str]:
    """The states that the service reports until it is ready; then it is ended."""
    models, seen, ready = load_models(), list[str](), asyncio.Event()

    def files(_: str) -> Path:
        assert model is not None
        found = locate(model, folder)
        assert found is not None
        return found

    def report(state: RoleState, _: str | None) -> None:
        seen.append(state.value)
        if state is RoleState.READY:
            ready.set()

    model = find_model(models, name, engine=engine, role=role) if name else None
    context = HostContext(folder, folder, folder / "logs", Config, SystemClock(), files)
    placed = Assignment(role, "main", "a", engine, 1, "why", model=name)
    running = asyncio.create_task(make(context, placed, model).run(report))
    try:
        async with asyncio.timeout(READY_S):
            await ready.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return seen
