"""What the embedding model asks of a host."""

from __future__ import annotations

from morgand.state.roles import EngineOption, GpuUse, Part, Rank, RoleSpec

SPEC = RoleSpec(
    name="embedder",
    purpose="turns texts into vectors",
    parts=(Part("main"), Part("standby", required=False)),
    engines=(
        EngineOption("sentence-transformers", GpuUse.MUST),
        EngineOption("onnx"),
        EngineOption("sentence-transformers"),
    ),
    rank=(Rank.MODERATE_VRAM, Rank.RAM),
    preferred_vram_mb=8 * 1024,
    needs_model=True,
    keep_model=True,
    patience_s=2.0,
    needed=True,
    feeds_ingestion=True,
)
