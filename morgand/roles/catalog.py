"""Every role, in order of importance. A new role is a folder and a line here."""

from __future__ import annotations

from morgand.roles.cache.spec import SPEC as CACHE
from morgand.roles.core.spec import SPEC as CORE
from morgand.roles.db.patroni_keys import election
from morgand.roles.db.spec import SPEC as DB
from morgand.roles.embedder.spec import SPEC as EMBEDDER
from morgand.roles.llm.spec import FAST as LLM_FAST
from morgand.roles.llm.spec import SPEC as LLM
from morgand.roles.monitor.spec import SPEC as MONITOR
from morgand.roles.objects.spec import SPEC as OBJECTS
from morgand.roles.reranker.spec import SPEC as RERANKER
from morgand.roles.vectors.spec import SPEC as VECTORS

SPECS = (CORE, DB, CACHE, VECTORS, OBJECTS, EMBEDDER, RERANKER, LLM, LLM_FAST, MONITOR)
BY_NAME = {spec.name: spec for spec in SPECS}
ELECTIONS = {DB.name: election}  # roles with an engine that chooses its first part by itself

# engines that ``services`` knows: a profile lists no other, so that the plan asks for nothing else
PERFORMED = frozenset(
    {
        "llama.cpp",
        "onnx",
        "sentence-transformers",
        "qdrant-edge",
        "sqlite",
        "postgresql",
        "memory",
        "folder",
        "assistant",
    }
)
