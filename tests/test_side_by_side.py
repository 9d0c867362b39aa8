"""Tests that run side by side do not meet on an address."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import usable

MEETS = """
import pathlib, socket, time

def test_meets():
    with socket.create_server(("127.0.5.1", 27471)):
        pathlib.Path("{own}").touch()
        deadline = time.monotonic() + 60
        while not pathlib.Path("{other}").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
"""


def test_two_files_that_listen_on_one_address_pass_at_the_same_time(tmp_path: Path) -> None:
    """Neither ends before the other has the address, too."""
    if not usable():
        pytest.skip("networks of their own need root, on Linux")
    shutil.copy(Path(__file__).parent / "conftest.py", tmp_path)
    for own, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"test_{own}.py").write_text(MEETS.format(own=own, other=other))
    argv = [sys.executable, "-m", "pytest", "--rootdir", str(tmp_path), "--numprocesses", "2", "--dist", "loadfile"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ran = subprocess.run(argv, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
