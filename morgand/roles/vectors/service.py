"""Run the vector index here: Qdrant Edge in a process of its own."""

from __future__ import annotations

from morgand.roles.base import HostContext, ProcessService, RoleService
from morgand.roles.process import EngineClient
from morgand.roles.vectors.client import EngineVectors
from morgand.state.roles import Assignment, Model

DIMENSION = 384  # of every embedder in the catalogue; another one would need another index


def service(context: HostContext, assignment: Assignment, _model: Model | None) -> RoleService:
    """The service of one assignment."""
    options = {"dir": str(context.data_dir / "vectors"), "size": DIMENSION}
    return ProcessService(context, assignment.role, "morgand.roles.vectors.engine", lambda: options, proof=searches)


async def searches(engine: EngineClient) -> None:
    """Have it look for something. Raises EngineError."""
    await EngineVectors(engine).search("Are you there?", None, limit=1)
