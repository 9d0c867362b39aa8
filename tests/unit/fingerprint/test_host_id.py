"""The host id: made once, bound to the machine and to its file."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from morgand.base import births
from morgand.base.errors import ConfigError
from morgand.fingerprint.host_id import Found, Record, Standing, bind, judge, load_or_create
from morgand.fingerprint.machine import UNKNOWN, card_identity, machine_digest


def test_it_survives_restarts_and_a_move(tmp_path: Path) -> None:
    home = tmp_path / "data"
    home.mkdir()
    made = load_or_create(home)
    assert load_or_create(home) == made
    assert stat.S_IMODE((home / "host.json").stat().st_mode) == 0o600
    home.rename(tmp_path / "moved")
    moved = load_or_create(tmp_path / "moved")
    assert (moved.identity, moved.standing, moved.bound) == (made.identity, Standing.OWN, False)
    bind(tmp_path / "moved", moved.identity)
    assert load_or_create(tmp_path / "moved") == made


def test_what_is_put_back_is_the_host_and_a_copy_beside_it_is_not(tmp_path: Path) -> None:
    """The difference is the original: whether it is still there."""
    home, away = tmp_path / "data", tmp_path / "backup"
    home.mkdir()
    made = load_or_create(home).identity
    shutil.copytree(home, away)
    assert load_or_create(away).standing is Standing.COPY
    number = (home / "host.json").stat().st_ino
    shutil.rmtree(home)
    for other in range(1000):  # something else takes the number of the file that was, where the system gives it again
        (tmp_path / f"other-{other}").touch()
        if (tmp_path / f"other-{other}").stat().st_ino == number:
            break
    shutil.copytree(away, home)
    assert (load_or_create(home).identity, load_or_create(home).standing) == (made, Standing.RESTORED)
    bind(home, made)
    assert (load_or_create(home).standing, load_or_create(away).standing) == (Standing.OWN, Standing.COPY)


def test_a_file_that_is_put_back_under_the_same_number_is_another_file(tmp_path: Path) -> None:
    """As file systems like to give it: the number says nothing then, and a voter's vote would be given twice."""
    home = tmp_path / "data"
    home.mkdir()
    made, file = load_or_create(home).identity, home / "host.json"
    with file.open("rb") as opened:
        if births.born_ns(opened.fileno()) == births.UNKNOWN:
            pytest.skip("this file system does not say when a file was made")
    record = json.loads(file.read_text())
    file.unlink()
    file.touch()
    file.write_text(json.dumps({**record, "inode": file.stat().st_ino}))
    assert (load_or_create(home).identity, load_or_create(home).standing) == (made, Standing.RESTORED)


def test_a_file_of_before_births_were_known_is_the_hosts_and_written_anew(tmp_path: Path) -> None:
    made, file = load_or_create(tmp_path), tmp_path / "host.json"
    record = json.loads(file.read_text())
    born = record.pop("born")
    file.write_text(json.dumps(record))
    found = load_or_create(tmp_path)
    assert (found.identity, found.standing, found.bound) == (made.identity, Standing.OWN, not born)


def test_a_copy_from_another_machine_is_told(tmp_path: Path) -> None:
    load_or_create(tmp_path, machine="one")
    assert load_or_create(tmp_path, machine="two").standing is Standing.FOREIGN
    assert load_or_create(tmp_path, machine="one").standing is Standing.OWN


def test_a_host_on_a_machine_without_an_identity_is_the_same_at_its_next_start(tmp_path: Path) -> None:
    """A bare container has neither a machine id nor a network card of its own: the directory is what is known."""
    made = load_or_create(tmp_path, machine=UNKNOWN)
    assert load_or_create(tmp_path, machine=UNKNOWN) == made
    found = load_or_create(tmp_path, machine="an identity it was given later")
    assert (found.identity, found.standing, found.bound) == (made.identity, Standing.OWN, False)


@pytest.mark.parametrize("node", [0, 0x01_23_45_67_89_AB, 0x02_42_AC_11_00_02, 0xFF_FF_FF_FF_FF_FF])
def test_an_address_that_was_made_up_identifies_nothing(node: int) -> None:
    """Python's random number, a container's card."""
    assert card_identity(node) is None


def test_an_address_burnt_into_a_card_does() -> None:
    assert card_identity(0x00_1B_21_3A_4F_5E) == "001b213a4f5e"


def test_without_an_identity_every_process_says_so() -> None:
    """As in a bare container: no file that names the machine, and no network card that Python finds."""
    code = (
        "import uuid; from pathlib import Path; from morgand.fingerprint import machine\n"
        "machine.Path = lambda name: Path('/nowhere') / name.lstrip('/'); uuid.getnode = uuid._random_getnode\n"
        "print(repr(machine.machine_digest()))"
    )
    said = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    ]
    assert said == ["''\n", "''\n"]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Found("m", 1, "/d", original=False, born=5), Standing.OWN),
        (Found("m", 1, "/d", original=False), Standing.OWN),  # a file system that does not say when
        (Found("m", 1, "/e", original=False, born=5), Standing.OWN),  # renamed
        (Found("m", 1, "/e", original=True, born=5), Standing.COPY),  # a snapshot has the same files
        (Found("m", 1, "/d", original=False, born=6), Standing.RESTORED),  # the number was given again
        (Found("m", 2, "/d", original=False, born=5), Standing.RESTORED),
        (Found("m", 2, "/e", original=False, born=6), Standing.RESTORED),  # moved to another disk
        (Found("m", 2, "/e", original=True, born=6), Standing.COPY),
        (Found("n", 1, "/d", original=False, born=5), Standing.FOREIGN),
        (Found(UNKNOWN, 2, "/d", original=False, born=6), Standing.RESTORED),
    ],
)
def test_a_copy_is_what_may_be_in_use_twice(found: Found, expected: Standing) -> None:
    assert judge(Record("h", "c", "m", 1, "/d", 5), found) is expected


def test_of_a_file_that_says_not_where_it_was_any_other_is_a_copy() -> None:
    assert judge(Record("h", "c", "m", 1), Found("m", 2, "/d", original=False)) is Standing.COPY


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text("{}")
    with pytest.raises(ConfigError, match="is damaged"):
        load_or_create(tmp_path)
    (tmp_path / "host.json").unlink()
    assert load_or_create(tmp_path).standing is Standing.OWN


def test_the_machine_has_a_steady_digest() -> None:
    assert machine_digest() == machine_digest()
    assert len(machine_digest()) in (0, 64)
