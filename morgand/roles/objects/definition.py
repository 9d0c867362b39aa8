"""The object store, as a role."""

from __future__ import annotations

from morgand.fingerprint.engines import BuiltIn
from morgand.roles.definition import RoleDefinition
from morgand.roles.objects.spec import SPEC

DEFINITION = RoleDefinition(SPEC, engines=(BuiltIn("folder"),), wired=frozenset({"folder"}), stores=("objects",))
