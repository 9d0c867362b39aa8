"""The monitoring server, as a role: planned, but no engine of it is performed yet."""

from __future__ import annotations

from morgand.roles.definition import RoleDefinition
from morgand.roles.monitor.spec import SPEC

DEFINITION = RoleDefinition(SPEC)
