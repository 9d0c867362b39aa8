"""The embedding model, as a role."""

from __future__ import annotations

from morgand.roles.definition import RoleDefinition
from morgand.roles.embedder.service import service
from morgand.roles.embedder.spec import SPEC
from morgand.roles.encoders import ENCODERS

DEFINITION = RoleDefinition(SPEC, engines=ENCODERS, perform={one.engine: service for one in ENCODERS})
