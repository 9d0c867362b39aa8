"""The cache, as a role."""

from __future__ import annotations

from morgand.fingerprint.engines import BuiltIn
from morgand.roles.cache.service import service
from morgand.roles.cache.spec import SPEC
from morgand.roles.definition import RoleDefinition

DEFINITION = RoleDefinition(
    SPEC, engines=(BuiltIn("memory"),), perform={"memory": lambda context, _one, _model: service(context.clock)}
)
