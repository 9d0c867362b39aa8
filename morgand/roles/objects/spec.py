"""What the object store asks of a host."""

from __future__ import annotations

from morgand.state.roles import EngineOption, Part, Rank, RoleSpec

SPEC = RoleSpec(
    name="objects",
    purpose="original files of documents",
    parts=(Part("main"), Part("replica", required=False, engines=("seaweedfs",))),
    engines=(EngineOption("folder", bound=True), EngineOption("seaweedfs")),
    rank=(Rank.ALWAYS_FIRST, Rank.DISK),
    ram_mb=32,
    disk_mb=500,
    exclusive=True,
    single_writer=True,
    patience_s=25.0,
    needed=True,
)
