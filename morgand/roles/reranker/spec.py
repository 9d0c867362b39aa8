"""What the cross-encoder asks of a host."""

from __future__ import annotations

from morgand.state.roles import EngineOption, GpuUse, Part, Rank, RoleSpec

SPEC = RoleSpec(
    name="reranker",
    purpose="puts the best passages first",
    parts=(Part("main"), Part("standby", required=False)),
    engines=(
        EngineOption("sentence-transformers", GpuUse.MUST),
        EngineOption("onnx"),
        EngineOption("sentence-transformers"),
    ),
    rank=(Rank.MODERATE_VRAM, Rank.RAM),
    preferred_vram_mb=6 * 1024,
    needs_model=True,
    needed=True,
)
