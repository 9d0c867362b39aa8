"""Run the embedder here, in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from morgand.process.nice import MIXED
from morgand.roles.base import HostContext, ProcessService, RoleService, model_files
from morgand.roles.embedder.client import EngineEmbedder
from morgand.roles.process import EngineClient
from morgand.state.roles import Assignment, Model


def service(context: HostContext, assignment: Assignment, model: Model | None) -> RoleService:
    """The service of one assignment."""

    def options() -> Mapping[str, Any]:
        return {
            "engine": assignment.engine,
            "model": assignment.model,
            "model_dir": str(model_files(context, model)),
            "threads": context.config().llm.threads,
        }

    return ProcessService(
        context, assignment.role, "morgand.roles.embedder.engine", options, proof=embeds, priority=MIXED
    )


async def embeds(engine: EngineClient) -> None:
    """Have it make one embedding. Raises EngineError."""
    await EngineEmbedder(engine).embed_passages(["Are you there?"])
