"""Every role, in order of importance. A new role is a folder and a line here."""

from __future__ import annotations

from collections.abc import Sequence

from morgand.fingerprint.engines import EngineSource, Program
from morgand.roles.cache.definition import DEFINITION as CACHE
from morgand.roles.core.definition import DEFINITION as CORE
from morgand.roles.db.definition import DEFINITION as DB
from morgand.roles.definition import RoleDefinition
from morgand.roles.embedder.definition import DEFINITION as EMBEDDER
from morgand.roles.llm.definition import DEFINITION as LLM
from morgand.roles.llm.definition import FAST_DEFINITION as LLM_FAST
from morgand.roles.monitor.definition import DEFINITION as MONITOR
from morgand.roles.objects.definition import DEFINITION as OBJECTS
from morgand.roles.reranker.definition import DEFINITION as RERANKER
from morgand.roles.vectors.definition import DEFINITION as VECTORS

ROLES = (CORE, DB, CACHE, VECTORS, OBJECTS, EMBEDDER, RERANKER, LLM, LLM_FAST, MONITOR)
SPECS = tuple(one.spec for one in ROLES)
NAMES = tuple(spec.name for spec in SPECS)
BY_NAME = {spec.name: spec for spec in SPECS}
ELECTIONS = {one.spec.name: one.election for one in ROLES if one.election is not None}
VITAL = tuple(spec.name for spec in SPECS if spec.vital)
STORES = tuple(folder for one in ROLES for folder in one.stores)
# what the cluster itself runs on; no role of the assistant's
CLUSTER_PROGRAMS = (Program("etcd", ("etcd",)), Program("serf", ("serf",), version=("version",)))


def performed(roles: Sequence[RoleDefinition] = ROLES) -> frozenset[str]:
    """Engines that some role can be performed with: a profile lists no other, so that the plan asks for no other."""
    return frozenset(engine for one in roles for engine in one.performed)


def engine_sources(roles: Sequence[RoleDefinition] = ROLES) -> tuple[EngineSource, ...]:
    """Where to look for them, each once."""
    able = performed(roles)
    found = {source.engine: source for one in roles for source in one.engines if source.engine in able}
    return (*found.values(), *CLUSTER_PROGRAMS)
