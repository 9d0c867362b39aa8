"""What the vector index asks of a host."""

from __future__ import annotations

from morgand.state.roles import EngineOption, Part, Rank, RoleSpec

SPEC = RoleSpec(
    name="vectors",
    purpose="the search index; rebuilt from the database when lost",
    parts=(Part("main"), Part("standby", required=False)),
    engines=(EngineOption("qdrant-edge"), EngineOption("qdrant")),
    rank=(Rank.ALWAYS_FIRST, Rank.RAM),
    ram_mb=256,
    disk_mb=500,
    exclusive=True,
    single_writer=True,
    patience_s=2.0,
    needed=True,
    feeds_ingestion=True,
)
