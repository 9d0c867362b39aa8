"""What ``morgand check`` reports."""

from __future__ import annotations

import json
from pathlib import Path

from morgand.config import load
from morgand.host.preflight import examine, report
from morgand.roles.catalog import NAMES
from morgand.scheduler.plan import plan
from tests.fakes.clusters import EMBEDDED, host, snapshot


def test_it_says_what_would_run_and_how_to_get_the_rest() -> None:
    """Placements with reasons, refusals with reasons, and a command for every engine that is missing."""
    bare = host("atlas", engines=[name for name in EMBEDDED if name != "llama.cpp"])
    told = report(bare.profile, plan(snapshot(bare)))
    text = "\n".join(told.lines)
    assert "db (primary): sqlite" in text
    assert "llm (main): atlas: llama.cpp or ollama is not installed" in text
    assert "llama.cpp: pip install xllamacpp" in text
    assert told.data["missing_engines"]["llama.cpp"] == "pip install xllamacpp"


def test_it_examines_this_machine_and_changes_nothing(tmp_path: Path) -> None:
    facts = tmp_path / "facts.json"
    facts.write_text('{"ram_mb": 65536, "gpus": [{"name": "RTX 3090", "vram_mb": 24576}]}')
    settings = [f"host.data_dir={tmp_path / 'data'}", f"host.profile_override={facts}"]
    told = examine(load(None, {}, settings, roles=NAMES))
    assert json.loads(json.dumps(told.data))["profile"]["ram_mb"] == 65536
    assert {"qwen3-14b", "qwen3-32b"} & set(told.data["wanted_models"])
    assert [one.name for one in tmp_path.iterdir()] == ["facts.json"]
