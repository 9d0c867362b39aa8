"""Which machine this is: made once, kept, sent with each upload, and told where it matters."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from morganctl.errors import CliError
from morganctl.identity import id_path, known_id, this_machine
from tests.fakes.api import FakeApi
from tests.unit.morganctl.conftest import Run


def test_the_id_is_made_once_and_only_the_user_reads_it(home: Path) -> None:
    assert known_id() == ""
    first = this_machine()
    assert this_machine() == first
    assert known_id() == first.id
    assert stat.S_IMODE(id_path().stat().st_mode) == 0o600
    assert list(id_path().parent.iterdir()) == [id_path()]


def test_commands_that_make_it_at_once_agree(home: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len({one.id for one in pool.map(lambda _: this_machine(), range(32))}) == 1


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 36, b"a" * 5000])
def test_what_is_no_id_is_neither_sent_nor_replaced(home: Path, content: bytes) -> None:
    """Whoever gave it a new one would send all documents anew, in silence."""
    this_machine()
    id_path().write_bytes(content)
    with pytest.raises(CliError, match="does not hold a machine's id"):
        this_machine()
    assert id_path().read_bytes() == content


def test_an_id_that_cannot_be_kept_is_told_before_anything_is_sent(run: Run, api: FakeApi, home: Path) -> None:
    """Something else is where the folder should be."""
    (home / "state").write_text("in the way")
    (home / "a.txt").write_text("a")
    ran = run("ingest", str(home / "a.txt"))
    assert (ran.code, api.uploads) == (1, [])
    assert "machine-id" in ran.err
    assert run("documents", "list").code == 0


def test_each_upload_says_which_machine_sends_it(run: Run, api: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    assert run("ingest", str(tmp_path)).code == 0
    machine = this_machine()
    assert {(one.machine, one.machine_name) for one in api.uploads} == {(machine.id, machine.name)}
    assert machine.name == os.uname().nodename


def test_the_machine_is_told_where_a_path_is_on_two(run: Run, api: FakeApi, home: Path, tmp_path: Path) -> None:
    """Its path means this machine's document."""
    path = tmp_path / "notes.txt"
    path.write_text("here")
    assert run("ingest", str(path)).code == 0
    assert "MACHINE" not in run("documents", "list").out
    id_path().rename(home / "kept")
    path.write_text("there")
    assert run("ingest", str(path)).code == 0
    (home / "kept").rename(id_path())
    assert "MACHINE" in run("documents", "list").out
    shown = run("documents", "show", str(path), "--json").json
    assert (shown["machine"], shown["size_bytes"]) == (this_machine().id, 4)
    assert run("documents", "show", "notes.txt").code == 1


def test_versions_are_listed(run: Run, api: FakeApi, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    for content in ("first", "second one"):
        path.write_text(content)
        assert run("ingest", str(path)).code == 0
    newest = list(api.documents)[-1]
    found = run("documents", "versions", newest, "--json").json["documents"]
    assert [one["size_bytes"] for one in found] == [10, 5]
    assert newest in run("documents", "versions", newest).out
