"""Folders that are a trial, through morganctl and the real daemon: very many files, hostile names, loops of links."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from morganctl.files import source_of
from tests.e2e.harness import Daemon
from tests.e2e.test_user import ctl

pytestmark = pytest.mark.engine

GOOD, EMPTY, UNSUPPORTED = 400, 1_600, 8_000
INGEST_S = 400.0  # on a busy machine; a fifteenth of it on an idle one


def test_a_folder_with_ten_thousand_files(running: Daemon, tmp_path: Path) -> None:
    """Nothing hangs and no name is lost: what can be read is completed, each empty file is named, the rest counted."""
    for number in range(UNSUPPORTED):
        (tmp_path / f"{number}.bin").touch()
    for number in range(EMPTY):
        (tmp_path / f"empty {number}.txt").touch()
    for number in range(GOOD):
        (tmp_path / f"note {number}.txt").write_text(f"The locker of guest {number} has the code {number * 37 + 1000}.")
    started = time.monotonic()
    summary = ctl(running, "ingest", str(tmp_path), code=1)
    assert time.monotonic() - started < INGEST_S
    assert summary["documents"] == GOOD
    assert summary["skipped"] == {"unsupported": UNSUPPORTED}
    assert {one["file"] for one in summary["failed"]} == {str(tmp_path / f"empty {n}.txt") for n in range(EMPTY)}
    assert all("empty" in one["error"] for one in summary["failed"])
    kept = {one["name"]: one["state"] for one in all_documents(running) if one["source"].startswith(str(tmp_path))}
    assert kept == {f"note {number}.txt": "completed" for number in range(GOOD)}
    again = ctl(running, "ingest", str(tmp_path), code=1)
    assert (again["unchanged"], len(again["failed"])) == (GOOD, EMPTY)


def all_documents(daemon: Daemon) -> list[dict[str, Any]]:
    """Page by page."""
    found: list[dict[str, Any]] = []
    while page := daemon.request("GET", f"/v1/documents?limit=1000&offset={len(found)}")[1]["documents"]:
        found += page
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_hostile_names(running: Daemon, tmp_path: Path) -> None:
    """Line breaks, dots, escapes, bytes that are no UTF-8, blanks and invisible letters: each file is one document,
    found by what it says and by its path."""
    names = [
        b"two\nlines.txt",
        b"a..b.txt",
        b"esc\x1b[31m.txt",
        b"x\xff.txt",
        b"x\xfe.txt",
        b'quo"te.txt',
        b"percent%2e%2e%2f.txt",
        b"-rf.txt",
        b"two lines.txt",
        b"back\\slash.txt",
        b"two  lines.txt",
        "two\u00a0lines.txt".encode(),
        "two\u200blines.txt".encode(),
        b"x\\xff.txt",
    ]
    folder = tmp_path / "d.."
    folder.mkdir()
    for number, name in enumerate(names):
        (folder / os.fsdecode(name)).write_text(f"Key {number} of the stables hangs on hook {number + 40}.")
    summary = ctl(running, "ingest", str(folder / ".." / "d.."))
    assert (summary["documents"], summary["failed"]) == (len(names), [])
    kept = [one for one in all_documents(running) if "/d../" in one["source"]]
    assert len({one["source"] for one in kept}) == len(names)
    assert {one["state"] for one in kept} == {"completed"}
    shown = Counter(one["name"] for one in kept)
    assert shown == Counter({
        "two%0Alines.txt": 1, "two lines.txt": 3, "a..b.txt": 1, "esc%1B[31m.txt": 1, "x%FF.txt": 1, "x%FE.txt": 1,
        'quo"te.txt': 1, "percent%2e%2e%2f.txt": 1, "back%5Cslash.txt": 1, "-rf.txt": 1, "two%E2%80%8Blines.txt": 1,
        "x%5Cxff.txt": 1,
    })  # fmt: skip
    assert all(character.isprintable() for name in shown for character in name)
    for name in names:
        path = os.path.join(folder, os.fsdecode(name))  # noqa: PTH118  # names may hold any bytes
        assert ctl(running, "documents", "show", path)["source"] == source_of(path)
    assert not list((running.data_dir / "spool").iterdir())
    again = ctl(running, "ingest", str(folder))
    assert again["unchanged"] == len(names)
    found = ctl(running, "search", "Key 3 of the stables", "--limit", "1")
    assert "hook 43" in found[0]["text"]


def test_a_loop_of_links(running: Daemon, tmp_path: Path) -> None:
    """It ends: each file arrives once, the loops are counted, a link to nowhere is named."""
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "gate.txt").write_text("The gate of the orchard is locked at nine in the evening.")
    (deep / "loop").symlink_to(tmp_path)
    (deep / "self").symlink_to("self")
    (tmp_path / "dangling.txt").symlink_to("nowhere")
    summary = ctl(running, "ingest", str(tmp_path), code=1)
    assert summary["documents"] == 1
    assert summary["skipped"]["seen before"] == 1
    named = {one["file"] for one in summary["failed"]}
    assert str(tmp_path / "dangling.txt") in named
    sources = [one["source"] for one in all_documents(running) if one["name"] == "gate.txt"]
    assert sources == [str(deep / "gate.txt")]
