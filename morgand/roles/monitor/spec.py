"""What the monitoring server asks of a host."""

from __future__ import annotations

from morgand.state.roles import Apart, Distance, EngineOption, Part, Rank, RoleSpec

SPEC = RoleSpec(
    name="monitor",
    purpose="keeps measurements and raises alarms",
    parts=(Part("main", required=False, apart=(Apart("db", "primary", Distance.AVOIDED),)),),
    engines=(EngineOption("prometheus"),),
    rank=(Rank.ALWAYS_FIRST, Rank.RAM),
    ram_mb=512,
    disk_mb=2048,
)
