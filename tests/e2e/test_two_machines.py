"""Two machines, one Morgan: the same path on both, edited, searched and deleted, by the command line as people do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Daemon

pytestmark = pytest.mark.engine

LAPTOP = "The laptop's note: the boiler in the cellar wants 1.5 bar of pressure.\n"
DESKTOP = "The desktop's note: the rent is due on the third of each month.\n"


def ctl(daemon: Daemon, machine: Path, *arguments: str) -> Any:
    """What the command prints on this machine, whose user has a state directory of his own."""
    ran = subprocess.run(
        [sys.executable, "-m", "morganctl", "--data-dir", str(daemon.data_dir), "--json", *arguments],
        env={**os.environ, "XDG_STATE_HOME": str(machine)}, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout)


def test_the_same_path_of_two_machines_is_never_confused(running: Daemon, tmp_path: Path) -> None:
    """Neither file takes the other's place or original; an edit is a version; deleting one leaves the other whole."""
    notes, laptop, desktop = tmp_path / "notes.txt", tmp_path / "laptop", tmp_path / "desktop"
    for machine, text in ((laptop, LAPTOP), (desktop, DESKTOP)):
        notes.write_text(text)
        assert ctl(running, machine, "ingest", str(notes))["documents"] == 1
    listed = ctl(running, laptop, "documents", "list")["documents"]
    assert len(listed) == 2
    assert len({one["machine"] for one in listed}) == 2
    for question, text in (("boiler pressure", LAPTOP), ("rent due", DESKTOP)):
        assert ctl(running, laptop, "search", question)[0]["text"].strip() == text.strip()

    notes.write_text(LAPTOP.replace("1.5", "1.8"))
    assert ctl(running, laptop, "ingest", str(notes))["documents"] == 1
    assert len(ctl(running, laptop, "documents", "list")["documents"]) == 2
    versions = ctl(running, laptop, "documents", "versions", str(notes))["documents"]
    assert [one["replaced"] is None for one in versions] == [True, False]
    texts = [one["text"] for one in ctl(running, laptop, "search", "boiler pressure")]
    assert "1.8" in texts[0]
    assert not any("1.5" in text for text in texts)
    assert len(originals(running)) == 3

    ctl(running, laptop, "documents", "delete", str(notes), "--yes")
    assert [one["sha256"] for one in ctl(running, desktop, "documents", "list")["documents"]] == originals(running)


def originals(daemon: Daemon) -> list[str]:
    return [file.name for file in (daemon.data_dir / "objects").glob("??/??/*")]
