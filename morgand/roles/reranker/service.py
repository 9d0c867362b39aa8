"""Run the reranker here, in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from morgand.base.errors import EngineError
from morgand.roles.base import HostContext, ProcessService, RoleService, model_files
from morgand.roles.process import EngineClient
from morgand.roles.reranker.client import EngineReranker
from morgand.state.roles import Assignment, Model

PROOF_S = 30.0  # for one pair


def service(context: HostContext, assignment: Assignment, model: Model | None) -> RoleService:
    """The service of one assignment."""

    def options() -> Mapping[str, Any]:
        return {
            "engine": assignment.engine,
            "model": assignment.model,
            "model_dir": str(model_files(context, model)),
            "threads": context.config().llm.threads,
        }

    return ProcessService(context, assignment.role, "morgand.roles.reranker.engine", options, proof=ranks)


async def ranks(engine: EngineClient) -> None:
    """Have it judge one pair. Raises EngineError."""
    scores = await EngineReranker(engine).scores("Are you there?", ["I am."], budget_s=PROOF_S)
    if None in scores:
        raise EngineError(f"The reranker did not judge one passage within {PROOF_S:g} s.")
