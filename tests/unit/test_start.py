"""``morgand start``: what it makes before its daemon holds the data directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from morgand.__main__ import cli


@pytest.fixture
def open_mask() -> Iterator[None]:
    """The mask of most shells; whatever the command makes of it ends with the test."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_mask")
def test_the_folders_it_makes_are_for_their_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those above the log's, which the daemon finds made; the daemon here ends at once."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    data = tmp_path / "above" / "data"
    ended = CliRunner().invoke(cli, ["start", "--set", f"host.data_dir={data}"])
    assert "morgand ended at once" in str(ended.exception)
    made = [data.parent, data, data / "logs", data / "logs" / "morgand.log"]
    assert [path for path in made if path.stat().st_mode & 0o077] == []
