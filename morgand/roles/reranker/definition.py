"""The cross-encoder, as a role."""

from __future__ import annotations

from morgand.roles.definition import RoleDefinition
from morgand.roles.encoders import ENCODERS
from morgand.roles.reranker.service import service
from morgand.roles.reranker.spec import SPEC

DEFINITION = RoleDefinition(SPEC, engines=ENCODERS, perform={one.engine: service for one in ENCODERS})
