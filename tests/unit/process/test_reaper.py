"""The guardian: real processes that detach themselves, and whoever starts them killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from morgand.roles.db import postmaster

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's adoption and death signals are Linux's")
GUARDIAN = [sys.executable, "-m", "morgand.process.reaper"]
# starts a server as Patroni does, through a process of its own session that ends at once, and waits
PROGRAM = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
if os.fork() == 0:
    os.setsid()
    server = subprocess.Popen(sys.argv[2:])
    with open(sys.argv[1] + ".new", "w") as out:
        out.write(str(server.pid))
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    os._exit(0)
os.wait()
if os.environ.get("END"):
    sys.exit(3)
time.sleep(60)
"""
SLEEPER = ("sleep", "60")


def started(tmp_path: Path, *server: str, grace_s: float = 10.0, **environment: str) -> subprocess.Popen[bytes]:
    argv = [*GUARDIAN, str(grace_s), sys.executable, "-c", PROGRAM, str(tmp_path / "pid"), *server]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, env={"PATH": "/usr/bin:/bin", **environment})


def server_of(tmp_path: Path) -> psutil.Process:
    deadline = time.monotonic() + 20
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return psutil.Process(int((tmp_path / "pid").read_text()))


def gone(process: psutil.Process) -> bool:
    return not psutil.wait_procs([process], timeout=10)[1]


def ended(guardian: subprocess.Popen[bytes]) -> int:
    try:
        return guardian.wait(20)
    finally:
        guardian.kill()
        assert guardian.stdin is not None
        guardian.stdin.close()


def test_a_stop_is_passed_on_and_nothing_is_left(tmp_path: Path) -> None:
    """The program ends in its own way, with its own exit code; what it detached is ended too."""
    guardian = started(tmp_path, *SLEEPER)
    server = server_of(tmp_path)
    guardian.terminate()
    assert ended(guardian) == 7
    assert gone(server)


def test_a_server_does_not_outlive_the_program(tmp_path: Path) -> None:
    guardian = started(tmp_path, *SLEEPER, END="1")
    server = server_of(tmp_path)
    assert ended(guardian) == 3
    assert gone(server)


def test_a_program_that_does_not_end_is_ended(tmp_path: Path) -> None:
    """SIGTERM while it stands still: after the grace period all is over."""
    guardian = started(tmp_path, *SLEEPER, grace_s=0.3)
    server = server_of(tmp_path)
    program = next(one for one in psutil.Process(guardian.pid).children() if one.pid != server.pid)
    program.suspend()
    guardian.terminate()
    assert ended(guardian) == 128 + signal.SIGKILL
    assert gone(server)
    assert gone(program)


def test_nothing_outlives_a_killed_parent(tmp_path: Path) -> None:
    """SIGKILL of who started the guardian, and so can end nothing itself."""
    argv = [*GUARDIAN, "10", sys.executable, "-c", PROGRAM, str(tmp_path / "pid"), *SLEEPER]
    script = f"import subprocess, time; p = subprocess.Popen({argv!r}, stdin=-1); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", script])
    server = server_of(tmp_path)
    family = psutil.Process(parent.pid).children(recursive=True)
    assert server in family
    parent.kill()
    parent.wait()
    assert all(gone(one) for one in family)


def test_a_server_does_not_outlive_a_killed_guardian(tmp_path: Path) -> None:
    """It is tied to the guardian by the kernel, through what Patroni calls as ``postgres``."""
    program = tmp_path / "postgres"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o700)
    tied = [sys.executable, "-I", "-S", postmaster.__file__, str(program), "-D", "data", "--config-file=x"]
    guardian = started(tmp_path, *tied)
    server = server_of(tmp_path)
    deadline = time.monotonic() + 10
    while "sleep" not in server.cmdline():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    guardian.kill()
    assert ended(guardian) == -signal.SIGKILL
    assert gone(server)


@pytest.mark.parametrize(
    ("arguments", "server"),
    [
        (["-D", "/data", "--config-file=/data/postgresql.conf", "--port=1"], True),
        (["-D", "/data", "-C", "shared_buffers", "--config-file=/data/postgresql.conf"], False),
        (["--single", "-D", "/data"], False),
        (["--describe-config"], False),
        (["--version"], False),
        ([], False),
    ],
)
def test_questions_to_the_program_are_told_from_a_start(arguments: list[str], server: bool) -> None:
    """Patroni asks ``postgres`` for versions and settings: those calls have no guardian to wait for."""
    assert postmaster.is_server(arguments) is server


def test_a_program_that_is_not_there_is_named() -> None:
    argv = [*GUARDIAN, "1", "/nonexistent/patroni"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as guardian:
        assert guardian.stderr is not None
        assert "/nonexistent/patroni cannot be run: No such file" in guardian.stderr.read()
        assert guardian.wait(20) == 127
