"""The account PostgreSQL runs as: asked by real children."""

from __future__ import annotations

import os
import pwd
import sys
import tempfile
from pathlib import Path

import pytest

from morgand.account import Account, engine_account, ensure_way, why_no_way, why_not
from morgand.errors import EngineError


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


@pytest.mark.skipif(os.getuid() != 0, reason="only root can ask as another account")
def test_a_python_the_account_cannot_reach_is_found_by_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual environment in a closed home, say."""
    with tempfile.TemporaryDirectory(dir="/tmp") as closed:
        hidden = Path(closed) / "python"
        hidden.symlink_to(sys.executable)
        monkeypatch.setattr(sys, "executable", str(hidden))
        reason = why_not("/nonexistent/for-this-test/postgres")
    assert reason is not None
    assert f"cannot run {hidden}. Install Morgan where every account can read it" in reason


def test_a_way_is_asked_for_as_the_account_postgresql_runs_as() -> None:
    """A closed folder is named; without an account, that is what is missing. The daemon's own account may pass."""
    with tempfile.TemporaryDirectory(dir="/tmp") as closed, tempfile.TemporaryDirectory(dir="/tmp") as open_to_all:
        Path(open_to_all).chmod(0o711)
        reasons = why_no_way(Path(closed)), why_no_way(Path(open_to_all))
    if os.getuid() != 0:
        assert reasons == (None, None)
    else:
        assert reasons[0] is not None
        assert closed in reasons[0] or "no account" in reasons[0]
        assert reasons[1] is None or "no account" in reasons[1]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can ask as another account")
def test_the_first_closed_folder_is_named() -> None:
    nobody = pwd.getpwnam("nobody")
    other = Account("nobody", nobody.pw_uid, nobody.pw_gid, (nobody.pw_gid,))
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        inner = Path(made) / "a" / "b"
        inner.mkdir(parents=True)
        with pytest.raises(EngineError, match=f"cannot enter {made}\\."):
            ensure_way(other, inner)
        Path(made).chmod(0o711)
        ensure_way(other, inner)
