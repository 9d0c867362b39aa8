"""The data directory: one daemon at a time, clear words for what is wrong with it."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from morgand.base.datadir import DataDir, holder
from morgand.base.errors import ConfigError, Conflict, StorageFull


def test_second_daemon_is_refused_by_name(tmp_path: Path) -> None:
    """The second one learns which process holds the directory; after the first ends it may start."""
    with DataDir(tmp_path):
        assert holder(tmp_path) == os.getpid()
        with pytest.raises(Conflict, match=f"process {os.getpid()}"):
            DataDir(tmp_path).__enter__()
    assert holder(tmp_path) is None
    with DataDir(tmp_path):
        pass


def test_nothing_is_touched_by_who_does_not_get_the_directory(tmp_path: Path) -> None:
    """An upload that is running belongs to the daemon that holds the directory; so does every other file of it."""
    with DataDir(tmp_path):
        running = tmp_path / "spool" / "upload"
        running.write_text("the first MiB of three")
        (tmp_path / "models").rmdir()
        before = _everything(tmp_path)
        with pytest.raises(Conflict):
            DataDir(tmp_path).__enter__()
        assert _everything(tmp_path) == before


def test_a_look_at_who_runs_keeps_no_daemon_out(tmp_path: Path) -> None:
    """`morgand start` looks ten times a second whether its daemon holds the directory already."""
    with DataDir(tmp_path):
        pass
    look = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(look, fcntl.LOCK_SH)
    ends = threading.Timer(0.1, os.close, (look,))
    ends.start()
    with DataDir(tmp_path):
        assert holder(tmp_path) == os.getpid()
    ends.join()


def _everything(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = {path: path.lstat() for path in (folder, *folder.rglob("*"))}
    return {str(path): (info.st_mode, info.st_size, info.st_mtime_ns) for path, info in found.items()}


def test_read_only_directory_is_named(tmp_path: Path) -> None:
    """A file in the way of the directory is a configuration error that names the path and the remedy."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"host\.data_dir"):
        DataDir(tmp_path / "file").__enter__()


@pytest.mark.skipif(not Path("/proc/sys").exists(), reason="needs a read-only file system to point at")
def test_read_only_file_system_is_a_storage_error() -> None:
    """A directory that cannot be made because the file system refuses writes."""
    with pytest.raises((StorageFull, ConfigError), match="/proc"):
        DataDir(Path("/proc/morgan")).__enter__()


def test_too_long_a_path_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """Unix sockets have short paths: say so rather than fail at bind."""
    deep = tmp_path / ("x" * 120)
    with pytest.raises(ConfigError, match="too long"):
        DataDir(deep).__enter__()
    assert not deep.exists()


def test_spool_is_emptied_and_private(tmp_path: Path) -> None:
    """Unacknowledged uploads of a dead daemon are removed; folders are for their owner alone."""
    with DataDir(tmp_path, ("db",)):
        (tmp_path / "spool" / "left").write_text("x")
    with DataDir(tmp_path, ("db",)):
        assert not (tmp_path / "spool" / "left").exists()
        assert (tmp_path / "db").stat().st_mode & 0o077 == 0
