"""What the assistant's own pipeline asks of a host."""

from __future__ import annotations

from morgand.state.roles import EngineOption, Part, Rank, RoleSpec

SPEC = RoleSpec(
    name="core",
    purpose="the assistant's pipeline: turns, retrieval, ingestion",
    parts=(Part("main"), Part("active", required=False, high=2)),  # the main one also processes documents
    engines=(EngineOption("assistant"),),
    rank=(Rank.ALWAYS_FIRST, Rank.RAM),
    ram_mb=256,
    disk_mb=100,
    vital=True,
    needed=True,
)
