"""The host id: made once, bound to the machine and to its file."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from morgand.base.errors import ConfigError, Conflict
from morgand.fingerprint.host_id import load_or_create
from morgand.fingerprint.machine import machine_digest


def test_it_survives_restarts_and_a_move(tmp_path: Path) -> None:
    home = tmp_path / "data"
    home.mkdir()
    made = load_or_create(home)
    assert load_or_create(home) == made
    assert stat.S_IMODE((home / "host.json").stat().st_mode) == 0o600
    home.rename(tmp_path / "moved")
    assert load_or_create(tmp_path / "moved") == made


def test_a_copy_on_the_same_machine_is_refused(tmp_path: Path) -> None:
    """The remedy makes it a host of its own; the original goes on."""
    home = tmp_path / "data"
    home.mkdir()
    made = load_or_create(home)
    shutil.copytree(home, tmp_path / "copy")
    with pytest.raises(Conflict, match=r"delete .*host\.json"):
        load_or_create(tmp_path / "copy")
    (tmp_path / "copy" / "host.json").unlink()
    assert load_or_create(tmp_path / "copy").id != made.id
    assert load_or_create(home) == made


def test_a_copy_from_another_machine_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path, machine="one")
    with pytest.raises(Conflict, match="another machine"):
        load_or_create(tmp_path, machine="two")


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text("{}")
    with pytest.raises(ConfigError, match="is damaged"):
        load_or_create(tmp_path)


def test_the_machine_has_a_steady_digest() -> None:
    assert machine_digest() == machine_digest()
    assert len(machine_digest()) == 64
