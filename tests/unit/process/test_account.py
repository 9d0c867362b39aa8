"""The account PostgreSQL runs as: asked by real children."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import morgand.process.account
from morgand.base.errors import EngineError
from morgand.process.account import Account, becoming, engine_account, why_no_way, why_not
from morgand.process.mount_namespace import REFUSED

only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another account")


def test_the_daemons_own_account_unless_it_is_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert engine_account() is None


def test_root_without_the_account_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """``nobody`` is no answer: others run as it too."""
    monkeypatch.setattr(os, "getuid", lambda: 0)
    with pytest.raises(EngineError, match=r"no account no-such-account.*apt-get install postgresql"):
        engine_account("no-such-account")


def test_missing_programs_are_named(tmp_path: Path) -> None:
    reason = why_not(str(tmp_path / "postgres"))
    assert reason is not None
    assert f"cannot run {tmp_path}/postgres" in reason


def test_a_machine_too_busy_to_say_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was lacking may be mended; without an account, that is what is lacking."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o755)
        program = f"{made}/postgres"
        with monkeypatch.context() as hasty:
            hasty.setattr(morgand.process.account, "ASK_DEADLINE_S", 0.001)
            with contextlib.suppress(TimeoutError):
                assert "no account" in (why_not(program) or "")
        before = why_not(program)
        assert before is not None
        for one in morgand.process.account.PROGRAMS:
            (Path(made) / one).touch(mode=0o755)
        assert why_not(program) is None or "no account" in before


def test_there_is_a_way_to_a_folder_behind_closed_ones() -> None:
    """Asked as the account PostgreSQL runs as; without an account, that is what is missing."""
    with tempfile.TemporaryDirectory(dir="/tmp") as closed:
        inner = Path(closed) / "a" / "b"
        inner.mkdir(parents=True, mode=0o700)
        reason = why_no_way(inner)
    assert reason is None or "no account" in reason


def asked(code: str, *arguments: object, shown: Path) -> str:
    """What nobody's Python prints that reaches ``shown``."""
    nobody = pwd.getpwnam("nobody")
    account = Account("nobody", nobody.pw_uid, nobody.pw_gid, (nobody.pw_gid,))
    argv = [*becoming(account, shown), "/usr/bin/python3", "-c", code, *(str(one) for one in arguments)]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/", timeout=30, umask=0o077)
    return ended.stdout + ended.stderr


@only_root
def test_nothing_else_behind_a_closed_folder_is_reached() -> None:
    """The folder is at its own path and what it holds has the rights it had; nobody else notices anything."""
    look = """
import os, sys
shown, beside, secret = sys.argv[1:]
text = open(os.path.join(shown, "open")).read()
print(os.getuid(), os.getgroups(), os.path.exists(beside), text, os.access(secret, os.R_OK))
open(os.path.join(shown, "own", "made"), "w").write("by nobody")
"""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        closed = Path(made) / "closed"
        shown, beside = closed / "deep" / "shown", closed / "beside"
        for folder in (shown / "own", beside):
            folder.mkdir(parents=True)
        closed.chmod(0o700)
        (shown / "open").write_text("text")
        (shown / "secret").write_text("secret")
        (shown / "secret").chmod(0o600)
        nobody = pwd.getpwnam("nobody")
        os.chown(shown / "own", nobody.pw_uid, nobody.pw_gid)
        alias = Path(made) / "alias"
        alias.symlink_to(shown)
        for path in (shown, alias):
            said = asked(look, path, beside, path / "secret", shown=path)
            assert said == f"{nobody.pw_uid} [{nobody.pw_gid}] False text False\n"
        assert (shown / "own" / "made").read_text() == "by nobody"
        assert beside.exists()
        assert not os.path.ismount(closed)


@only_root
def test_a_way_that_cannot_be_made_is_told() -> None:
    """In a container that may not mount, say; the remedy is named."""
    with tempfile.TemporaryDirectory(dir="/tmp") as closed:
        inner = Path(closed) / "inner"
        inner.mkdir()
        account = pwd.getpwnam("nobody")
        argv = becoming(Account("nobody", account.pw_uid, account.pw_gid), inner)
        # without the right to mount, as a container's root is
        without = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]
        ended = subprocess.run([*without, *argv, "/bin/true"], capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == REFUSED
    assert ended.stderr == f"No way can be made through {closed}: Operation not permitted (a mount namespace).\n"


@only_root
def test_a_python_the_account_cannot_read_is_found_by_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual environment that is closed itself, say."""
    with tempfile.TemporaryDirectory(dir="/tmp") as closed:
        hidden = Path(closed) / "python"
        hidden.symlink_to(sys.executable)
        monkeypatch.setattr(sys, "executable", str(hidden))
        reason = why_not("/nonexistent/for-this-test/postgres")
    assert reason is not None
    assert f"cannot run {hidden}" in reason
    assert "Install Morgan where every account can read it" in reason
