"""What the cache asks of a host."""

from __future__ import annotations

from morgand.state.roles import EngineOption, Part, Rank, RoleSpec

SPEC = RoleSpec(
    name="cache",
    purpose="answers and vectors that may be forgotten",
    parts=(Part("primary"), Part("replica", required=False, engines=("redis",))),
    engines=(EngineOption("memory"), EngineOption("redis")),
    rank=(Rank.ALWAYS_FIRST, Rank.RAM),
    ram_mb=64,
    exclusive=True,
)
