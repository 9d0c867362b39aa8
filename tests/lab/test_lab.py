"""What CI plays in the laboratory: a bounded choice. `make lab SCENARIO=...` plays any, as often as wanted."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from tests.lab.cluster import Lab
from tests.lab.hosts import faketime
from tests.lab.net import usable
from tests.lab.scenario import parse

SCENARIOS = Path(__file__).parent / "scenarios"
IN_CI = ("interfaces", "wrong_clock", "losses", "rolling_three")


@pytest.mark.lab
@pytest.mark.parametrize("name", IN_CI)
def test_scenario(name: str) -> None:
    """The story holds, line by line. Where it does not the hosts' folders are kept, for the logs in them."""
    reason = usable()
    if reason is not None:
        pytest.skip(f"no laboratory here: {reason}")
    if name == "wrong_clock" and faketime() is None:
        pytest.skip("a wrong clock needs libfaketime")
    root = Path(tempfile.mkdtemp(prefix="mlab", dir="/tmp"))  # short: sockets lie under it
    sys.stderr.write(f"logs in {root}\n")
    with Lab((SCENARIOS / f"{name}.txt").read_text(), root, seed=1) as lab:
        lab.run()
    shutil.rmtree(root, ignore_errors=True)


@pytest.mark.parametrize("file", sorted(SCENARIOS.glob("*.txt")), ids=lambda file: file.stem)
def test_every_scenario_can_be_read(file: Path) -> None:
    assert parse(file.read_text())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "begins with its hosts"),
        ("join all", "begins with its hosts"),
        ("hosts a\npower cut a", "Line 2: 'power cut"),
    ],
)
def test_what_is_no_scenario_is_refused_by_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)
