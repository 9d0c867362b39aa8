"""``morgand stop`` as a person sees it, with a daemon that takes its time."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from morgand import __main__ as program

PID = 4711


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stop:
    return Stop(monkeypatch, tmp_path)


class Stop:
    """``ends_after``: looks at the data directory until nobody holds it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._folder, self._patch, self.sent = folder, monkeypatch, list[tuple[int, int]]()
        monkeypatch.setattr(os, "kill", lambda pid, what: self.sent.append((pid, what)))

    def __call__(self, ends_after: int) -> Result:
        looks = iter(range(ends_after))
        self._patch.setattr(program, "holder", lambda _: PID if next(looks, None) is not None else None)
        return CliRunner().invoke(program.cli, ["stop", "--set", f"host.data_dir={self._folder}"])


def test_nothing_runs(stop: Stop) -> None:
    assert (stop(0).exit_code, stop.sent) == (0, [])


def test_a_daemon_that_ends_soon(stop: Stop) -> None:
    ended = stop(2)
    assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "morgand stopped.\n", "")
    assert stop.sent == [(PID, signal.SIGTERM)]


def test_whoever_waits_for_long_is_told_once_what_for(stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "TELL_AFTER_S", 0.05)
    ended = stop(5)
    assert (ended.exit_code, ended.stdout) == (0, "morgand stopped.\n")
    assert ended.stderr.count("Handing over") == 1


def test_a_daemon_that_does_not_end_is_named(stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "STOP_DEADLINE_S", 0.5)
    ended = stop(10**6)
    assert ended.exit_code != 0
    assert f"process {PID}) does not stop" in ended.output + str(ended.exception)
