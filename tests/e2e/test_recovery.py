"""The only voter of two hosts is lost for good: the other goes on, by hand, and there is never a second cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Daemon, away_and_back

PORT = 28471
BIN = Path(sys.executable).parent


def daemon(root: Path, number: int) -> Daemon:
    own = (f"host.name=host{number}", f"host.address=127.0.6.{number}", f"cluster.port={PORT}")
    return Daemon(root / f"h{number}", own)


def ctl(one: Daemon, *words: str) -> Any:
    argv = [str(BIN / "morganctl"), "--json", "--data-dir", str(one.data_dir), *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def morgand(one: Daemon, *words: str, said: str = "", code: int = 0) -> str:
    """What a command of the daemon's own program prints, errors included."""
    argv = [sys.executable, "-m", "morgand", *words, "--set", f"host.data_dir={one.data_dir}"]
    argv += [word for setting in one.settings for word in ("--set", setting)]
    done = subprocess.run(argv, input=said, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def join(one: Daemon, sponsor: Daemon) -> None:
    invitation = ctl(sponsor, "cluster", "invite")
    morgand(one, "join", invitation["address"], "-", said=invitation["token"] + "\n")


def redundant(one: Daemon) -> bool:
    """Whether both have the database; at once where PostgreSQL cannot run."""
    status = ctl(one, "status")
    if not all("postgresql" in str(host["profile"]["engines"]) for host in status["hosts"]):
        return True
    return [standby["sync"] for standby in status["database"]["standbys"]] == [True]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Daemon, Daemon]]:
    """The first founded the cluster and votes; the second is a member."""
    first, second = daemon(tmp_path, 1), daemon(tmp_path, 2)
    try:
        first.start()
        join(second, first)
        second.start(ready=("db",))
        second.until((second.data_dir / "cluster" / "copy").exists, 120, "a copy of the cluster's truth")
        second.until(lambda: redundant(second), 120, "the database on both hosts")
        yield first, second
    finally:
        for one in (second, first):
            if one.process is not None:
                one.stop()


def test_the_last_host_goes_on(hosts: tuple[Daemon, Daemon]) -> None:
    first, second = hosts
    assert "Another morgand" in morgand(second, "recover", "--yes", code=1)
    second.stop()
    assert "has its quorum: host1 can decide" in morgand(second, "recover", "--yes", code=1)
    first.kill()
    told = morgand(second, "recover", said="n\n", code=1)
    for words in (
        "Given up for good: host1.",
        "from its copy of",
        "Lost with host1",
        "objects)",
        "Nothing was changed",
    ):
        assert words in told
    assert "host2 goes on alone" in morgand(second, "recover", "--yes")
    assert "host2 goes on alone" in morgand(second, "recover", "--yes")  # as after one that was cut off

    second.start(ready=("db", "core"))
    status = ctl(second, "status")
    assert [one["name"] for one in status["hosts"]] == ["host2"]
    assert [one["name"] for one in status["cluster"]["quorum"]["voters"]] == ["host2"]
    assert status["cluster"]["epoch"] > 1000
    assert second.turn("Here I am.", answer=False)[0] == 200

    with pytest.raises(AssertionError, match=r"removed from its cluster, 127\.0\.6\.2"):  # and so its daemon ends
        first.start(ready=("llm",))
    join(first, second)
    first.start(ready=("db",))
    second.until(lambda: _states(second) == {"host1": "alive", "host2": "alive"}, 120, "both are alive")
    assert ctl(first, "status")["cluster"]["id"] == status["cluster"]["id"]
    second.stop()
    assert "this host can decide, with 1 of 1 voters" in morgand(second, "recover", "--yes", code=1)


def test_members_whose_directories_were_put_back(hosts: tuple[Daemon, Daemon]) -> None:
    """The one without a vote is let in anew by the other, as the refusal says; the only voter goes on by recovery."""
    first, second = hosts
    ids = {host["name"]: host["id"] for host in ctl(first, "hosts", "list")["hosts"]}
    second.stop()
    away_and_back(second)
    told = morgand(second, "run", "--set", "api.listen=off", code=1)
    assert "`morganctl cluster invite` on another host of the cluster, `morgand join` here" in told
    join(second, first)
    second.start(ready=("db",))
    second.until(lambda: _states(second) == {"host1": "alive", "host2": "alive"}, 120, "both are alive")
    assert {host["name"]: host["id"] for host in ctl(second, "hosts", "list")["hosts"]} == ids

    second.stop()
    first.stop()
    away_and_back(first)
    assert "`morgand recover`" in morgand(first, "run", "--set", "api.listen=off", code=1)
    assert "host1 goes on alone" in morgand(first, "recover", "--yes")
    first.start(ready=("db", "core"))
    assert [(one["name"], one["id"]) for one in ctl(first, "status")["hosts"]] == [("host1", ids["host1"])]
    assert first.turn("Here I am.", answer=False)[0] == 200
    join(second, first)
    second.start(ready=("db",))
    second.until(lambda: _states(second) == {"host1": "alive", "host2": "alive"}, 120, "both are alive again")


def _states(one: Daemon) -> dict[str, str]:
    return {host["name"]: host["state"] for host in ctl(one, "hosts", "list")["hosts"]}
