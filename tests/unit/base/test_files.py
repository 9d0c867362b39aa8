"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path

import pytest

from morgand.base import files
from morgand.base.errors import StorageFull


def test_files_are_private_and_whole(tmp_path: Path) -> None:
    """Mode 0600 whatever was there before, and no half-written file."""
    file = tmp_path / "key.pem"
    file.write_text("old")
    file.chmod(0o644)
    file.with_name("key.pem.new").write_text("left by a crash")
    files.write_private(file, b"new")
    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(one.name for one in tmp_path.iterdir()) == ["key.pem"]
    with pytest.raises(StorageFull):
        files.write_private(tmp_path / "missing" / "key.pem", b"")


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """Whatever it had written is gone."""
    file = tmp_path / "store"
    files.write_private(file, b"old")
    with contextlib.suppress(ZeroDivisionError), files.replacing(file) as fresh:
        fresh.write(b"half")
        raise ZeroDivisionError
    assert file.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["store"]
