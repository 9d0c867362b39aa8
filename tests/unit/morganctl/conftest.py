"""The command line against the API from memory, in one process, with a home of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from morganctl.cli import main
from tests.fakes.api import FakeApi


@dataclass
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as the one JSON document it must be."""
        return msgspec.json.decode(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory with a path short enough for a socket, and a state directory beside it."""
    with tempfile.TemporaryDirectory(prefix="mc") as name:
        monkeypatch.setenv("MORGAN_HOST__DATA_DIR", name)
        monkeypatch.setenv("XDG_STATE_HOME", f"{name}/state")
        monkeypatch.delenv("MORGAN_API_KEY", raising=False)
        yield Path(name)


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one command line."""

    def call(*arguments: str) -> Ran:
        code = main(arguments)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture
def api(home: Path) -> Iterator[FakeApi]:
    """The daemon."""
    fake = FakeApi(home / "morgand.sock")
    fake.start()
    yield fake
    fake.stop()
