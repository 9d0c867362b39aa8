"""What the database asks of a host."""

from __future__ import annotations

from morgand.state.roles import EngineOption, Part, Rank, RoleSpec

SPEC = RoleSpec(
    name="db",
    purpose="conversations, documents and everything that must not be lost",
    parts=(
        Part("primary"),
        Part("standby", required=False, engines=("postgresql",)),
        Part("replica", required=False, engines=("postgresql",)),
    ),
    engines=(EngineOption("postgresql", elects=True, hosts=2), EngineOption("sqlite", bound=True)),
    rank=(Rank.ALWAYS_FIRST, Rank.NO_GPU_FIRST, Rank.RAM),
    ram_mb=256,
    disk_mb=500,
    exclusive=True,
    single_writer=True,
    patience_s=25.0,
    vital=True,
    needed=True,
)
