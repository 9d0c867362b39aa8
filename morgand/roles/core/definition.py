"""The assistant's own pipeline, as a role."""

from __future__ import annotations

from morgand.fingerprint.engines import BuiltIn
from morgand.roles.core.spec import SPEC
from morgand.roles.definition import RoleDefinition

DEFINITION = RoleDefinition(SPEC, engines=(BuiltIn("assistant"),), wired=frozenset({"assistant"}))
