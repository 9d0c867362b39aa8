"""The language models, as roles."""

from __future__ import annotations

from morgand.fingerprint.engines import Package
from morgand.roles.definition import RoleDefinition
from morgand.roles.llm.service import service
from morgand.roles.llm.spec import FAST, SPEC

_ENGINES = (Package("llama.cpp", ("xllamacpp",), "xllamacpp", how_to_get="pip install xllamacpp"),)
_PERFORM = {"llama.cpp": service}

DEFINITION = RoleDefinition(SPEC, engines=_ENGINES, perform=_PERFORM)
FAST_DEFINITION = RoleDefinition(FAST, engines=_ENGINES, perform=_PERFORM)
