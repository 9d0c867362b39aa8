"""Hosts as people look at them: values to words, and on narrow terminals."""

from __future__ import annotations

import sys

import pytest

from morganctl import machine
from morganctl.commands.hosts import MACHINE_COLUMNS, machine_rows
from morganctl.output import Output, fits
from morgand.api.schema import HostView, UsageView
from tests.fakes.api import HOST, FakeApi
from tests.unit.morganctl.conftest import Run

GAMING = HostView(
    "3f2a90", "attic", "192.0.2.1", "alive", "sometimes", ["llm"],
    {
        "ram_mb": 65536, "cpu_model": "AMD Ryzen 7 5800X", "cpu_cores": 16, "os": "linux", "arch": "x86_64",
        "disk": {"path": "/data", "free_mb": 51200, "total_mb": 102400, "level": "well"},
        "network": {"interface": "eth0", "address": "192.0.2.1", "wired": True},
        "gpus": [
            {"name": "RTX 3090", "vram_mb": 24576, "driver": "550.1", "cuda": "12.4", "compute_capability": "8.6"}
        ],
        "engines": [{"name": "llama.cpp", "version": "1.2"}, {"name": "onnx", "version": "1.17"}],
        "models": ["qwen3-14b", "bge-small-en-v1.5"],
    },
    UsageView(12.5, 12800, 0), display_name="attic (3f2a)",
)  # fmt: skip


def test_a_machine_in_words() -> None:
    assert machine.called(GAMING) == "attic (3f2a)"
    assert machine.system(GAMING) == "Linux x86_64"
    assert machine.cpu(GAMING) == "AMD Ryzen 7 5800X, 16 cores"
    assert machine.ram(GAMING) == "12.5 of 64 GB used"
    assert machine.gpus(GAMING) == ["RTX 3090 24 GB"]
    facts = dict(machine.facts(GAMING))
    assert facts["GPU"] == "RTX 3090, 24 GB VRAM, driver 550.1, CUDA 12.4, compute capability 8.6"
    assert facts["engines"] == ["llama.cpp 1.2", "onnx 1.17"]
    assert facts["models"] == ["qwen3-14b", "bge-small-en-v1.5"]
    assert facts["disk"] == "50 GB free of 100 GB at /data, well"
    assert (facts["duty"], facts["roles"], facts["CPU in use"]) == ("sometimes", ["llm"], "12 %")


def test_a_host_of_another_version_may_tell_less() -> None:
    bare = HostView("h", "bare", "", "alive", "always", [], {}, UsageView(0.0, 0, 0))
    assert dict(machine.facts(bare))["GPU"] == "none"
    assert (machine.system(bare), machine.cpu(bare), machine.gpus(bare)) == ("", "", [])


def test_hosts_show_no_paths_of_fields(api: FakeApi, run: Run) -> None:
    shown = run("hosts", "show", "attic").out
    assert "RTX 3090, 24 GB VRAM" in shown
    assert "[0]" not in shown
    assert "vram_mb" not in shown
    listed = run("hosts", "list").out
    assert "RTX 3090 24 GB" in listed
    assert HOST.id not in listed


@pytest.mark.parametrize(("width", "expected"), [(30, False), (39, False), (40, True), (200, True)])
def test_a_table_stands_where_it_breaks_nothing_but_sentences(width: int, expected: bool) -> None:
    rows = [("attic", "alive", "a long reason that may be broken over lines")]
    assert fits(("host", "state", "why"), rows, width) is expected


def test_a_narrow_terminal_gets_a_paragraph_for_each_host(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No word of it is broken."""
    for width, paragraphs in ((60, True), (200, False)):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        Output().table(MACHINE_COLUMNS, machine_rows([GAMING]))
        shown = capsys.readouterr().out
        assert "AMD Ryzen 7 5800X, 16 cores" in shown
        assert (shown.splitlines()[0] == "attic (3f2a)") is paragraphs
