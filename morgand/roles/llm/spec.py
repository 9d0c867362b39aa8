"""What the language models ask of a host: the main one, and a small one that answers while the main one loads."""

from __future__ import annotations

from morgand.state.roles import Apart, EngineOption, GpuUse, Part, Rank, RoleSpec

_ENGINES = (EngineOption("llama.cpp", GpuUse.MAY), EngineOption("ollama", GpuUse.MAY))

SPEC = RoleSpec(
    name="llm",
    purpose="the main language model",
    parts=(Part("main"), Part("replica", low=0, high=8, required=False)),
    engines=_ENGINES,
    rank=(Rank.VRAM, Rank.RAM),
    needs_model=True,
    spread=True,
    patience_s=10.0,
    needed=True,
)

FAST = RoleSpec(
    name="llm-fast",
    purpose="a small language model that answers while the main one loads",
    parts=(Part("main", required=False, apart=(Apart("llm", "main"),)),),
    engines=_ENGINES,
    rank=(Rank.VRAM, Rank.RAM),
    needs_model=True,
    spread=True,
)
