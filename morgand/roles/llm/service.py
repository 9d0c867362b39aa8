"""Run the LLM here: llama.cpp in a process of its own. Also performs ``llm-fast``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from morgand.roles.base import HostContext, ProcessService, RoleService, model_files
from morgand.roles.llm.client import say_a_token
from morgand.roles.process import EngineClient
from morgand.state.roles import Assignment, Model

SLOTS = 2  # answers generated at the same time; each has the model's whole context
ALL_LAYERS = 999  # llama.cpp takes the model's own number when this is larger


def service(context: HostContext, assignment: Assignment, model: Model | None) -> RoleService:
    """The service of one assignment."""

    def options() -> Mapping[str, Any]:
        path = model_files(context, model)
        return {
            "model_path": str(path),
            "context_tokens": model.context_tokens if model else 0,
            "parallel": SLOTS,
            "threads": context.config().llm.threads,
            "gpu_layers": ALL_LAYERS if assignment.vram_mb else 0,
        }

    async def speaks(_: EngineClient) -> None:
        await say_a_token(context.socket(assignment.role))

    return ProcessService(context, assignment.role, "morgand.roles.llm.engine", options, proof=speaks, eager=True)
