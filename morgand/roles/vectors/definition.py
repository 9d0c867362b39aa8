"""The vector index, as a role."""

from __future__ import annotations

from morgand.fingerprint.engines import Package
from morgand.roles.definition import RoleDefinition
from morgand.roles.vectors.spec import SPEC

DEFINITION = RoleDefinition(
    SPEC,
    engines=(Package("qdrant-edge", ("qdrant-edge-py",), "qdrant_edge", how_to_get="pip install qdrant-edge-py"),),
    wired=frozenset({"qdrant-edge"}),
    stores=("vectors",),
)
