"""What ``morgand check`` reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from morgand.config import load
from morgand.host.preflight import examine, report
from morgand.host.profile import look
from morgand.roles.catalog import NAMES, SPECS, performed
from morgand.roles.models import load_models
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


def test_it_announces_no_engine_that_the_daemon_would_not_run(tmp_path: Path) -> None:
    """One function says what this host can run: to the daemon's profile and to this report."""
    facts = tmp_path / "facts.json"
    everything = sorted({option.name for spec in SPECS for option in spec.engines} | {"etcd", "serf"})
    facts.write_text(json.dumps({"ram_mb": 65536, "engines": everything}))
    config = load(None, {}, [f"host.data_dir={tmp_path}", f"host.profile_override={facts}"], roles=NAMES)
    told = examine(config).data
    listed = {one["name"] for one in told["profile"]["engines"]}
    assert listed == {one.name for one in look(config, tmp_path, load_models()).profile.engines}
    assert not listed & {"prometheus", "redis", "ollama", "qdrant", "seaweedfs"}
    assert {one["engine"] for one in told["runs"]} <= performed()
    assert told["missing_engines"].keys() <= performed()


def test_it_reads_the_same_files_as_the_daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of paths with ~ too."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "facts.json").write_text('{"ram_mb": 4711}')
    (tmp_path / "models").mkdir()
    (tmp_path / "models/qwen3-4b.gguf").touch()
    config = load(
        None,
        {},
        ["host.data_dir=~/data", "host.profile_override=~/facts.json", "catalog.models_dir=~/models"],
        roles=NAMES,
    )
    (tmp_path / "data").mkdir()
    profile = look(config, config.data_dir, load_models()).profile
    assert (profile.ram_mb, "qwen3-4b" in profile.models) == (4711, True)
    assert "qwen3-4b" in examine(config).data["profile"]["models"]
