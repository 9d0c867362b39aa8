"""Daemons for the end-to-end tests; each is ended by the id it was started with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that is not started yet."""
    one = Daemon(tmp_path / "data")
    yield one
    if one.process is not None and one.process.poll() is None:
        one.stop()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with all roles ready, shared by the tests of a file."""
    one = Daemon(tmp_path_factory.mktemp("shared") / "data")
    one.start()
    yield one
    one.stop()
