"""Ingest: hostile names and folders, many files, faults by file name, a daemon that goes away."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from morganctl.files import Candidate, Fault, walk
from tests.fakes.api import FakeApi
from tests.unit.morganctl.conftest import Run

# aiohttp's own multipart reader, in the fake server, calls a deprecated method of its own for many small parts.
pytestmark = pytest.mark.filterwarnings("ignore:unread_data:DeprecationWarning")


def test_summary_and_exit_code(api: FakeApi, run: Run, tmp_path: Path) -> None:
    """Documents, chunks and embeddings are counted; failures are named and exit with 1."""
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "other.md").write_text("other")
    ran = run("ingest", str(tmp_path))
    assert ran.code == 0, ran.err
    assert "2 documents, 4 chunks, 6 embeddings" in ran.out
    (tmp_path / "locked.pdf").write_text("bad")
    (tmp_path / "empty.txt").touch()
    ran = run("ingest", str(tmp_path))
    assert ran.code == 1
    assert "locked.pdf: It is encrypted." in ran.err
    assert "empty.txt: The file is empty." in ran.err
    assert "2 were there already" in ran.out


def test_json_summary(api: FakeApi, run: Run, tmp_path: Path) -> None:
    """The JSON document carries counts, skips and failures; --no-wait counts what is under way."""
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "film.mp4").write_text("no")
    ran = run("ingest", "--json", "--no-wait", str(tmp_path), str(tmp_path / "absent"))
    assert ran.code == 1
    assert ran.json["waiting"] == 1
    assert ran.json["skipped"] == {"hidden": 1, "unsupported": 1}
    assert ran.json["failed"] == [{"file": str(tmp_path / "absent"), "error": "there is no such file"}]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_hostile_names_arrive_distinct_and_harmless(api: FakeApi, run: Run, tmp_path: Path) -> None:
    """Newlines, dots, quotes, escapes and bytes that are not UTF-8: each file arrives once, nothing is obeyed."""
    names = [b"two\nlines.txt", b".txt.txt", b'quo"te.txt', b"esc\x1b[31m.txt", b"x\xff.txt", b"x\xfe.txt",
             b"percent%41.txt", "grün.txt".encode(), b"semi;colon.txt", b"back\\slash.txt", b"-rf.txt"]  # fmt: skip
    folder = tmp_path / "d.."
    folder.mkdir()
    for number, name in enumerate(names):
        (folder / os.fsdecode(name)).write_bytes(b"bad %d" % number)
    ran = run("ingest", str(tmp_path))
    assert ran.code == 1
    sent = list(api.uploads)
    hidden = 1  # the one that begins with a dot
    assert len({upload.source for upload in sent}) == len(sent) == len(names) - hidden
    assert {"two%0Alines.txt", "grün.txt", "x%FF.txt", "x%FE.txt", 'quo"te.txt', "percent%41.txt"} <= {
        upload.name for upload in sent
    }
    assert "\x1b" not in ran.err
    assert ran.err.count("It is encrypted.") == len(sent) == sum("encrypted" in line for line in ran.err.splitlines())


def test_links_loops_and_unreadable_files(api: FakeApi, run: Run, tmp_path: Path) -> None:
    """A loop of links ends, a dangling link and an unreadable file are errors of their own, the rest goes on."""
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "good.txt").write_text("good")
    (deep / "loop").symlink_to(tmp_path)
    (deep / "again").symlink_to(deep)
    (tmp_path / "dangling.txt").symlink_to("nowhere")
    faults = 1
    if Path("/proc/self/mem").exists():
        (tmp_path / "memory.txt").symlink_to("/proc/self/mem")  # opens, but cannot be read, even by root
        faults += 1
    ran = run("ingest", "--json", str(tmp_path))
    assert ran.code == 1
    assert ran.json["documents"] == 1
    assert ran.json["skipped"] == {"seen before": 2}
    assert len(ran.json["failed"]) == faults


def test_fifo_is_not_opened(tmp_path: Path) -> None:
    """A pipe would block for ever: in a folder it is skipped, named outright it is an error."""
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "x.bin").touch()
    skipped: Counter[str] = Counter()
    assert list(walk([str(tmp_path)], skipped)) == []
    assert skipped == {"not a file": 1, "unsupported": 1}
    found = list(walk([str(tmp_path / "pipe.txt"), str(tmp_path / "x.bin")], skipped))
    assert [type(item) for item in found] == [Fault, Candidate]


def test_ten_thousand_files(api: FakeApi, run: Run, tmp_path: Path) -> None:
    """A folder with 10,000 files arrives whole, in few uploads, within a bounded time."""
    for number in range(10_000):
        (tmp_path / f"{number}.txt").write_text(f"note {number}")
    started = time.monotonic()
    ran = run("ingest", str(tmp_path), "--json")
    assert ran.code == 0, ran.err
    assert ran.json["documents"] == len(api.documents) == 10_000
    assert api.requests.count("POST /v1/documents") <= 100
    assert time.monotonic() - started < 30


def test_one_refused_request_costs_one_file(api: FakeApi, run: Run, tmp_path: Path) -> None:
    """When a request with several files is refused as too large, the files are sent one by one."""
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"note {number}")
    api.fail_next(413, path="/v1/documents", code="too_large")
    api.fail_next(413, path="/v1/documents", code="too_large")
    ran = run("ingest", "--json", str(tmp_path))
    assert ran.code == 1
    assert ran.json["documents"] == 2
    assert [item["file"] for item in ran.json["failed"]] == [str(tmp_path / "0.txt")]


def test_rate_limit_is_waited_for(api: FakeApi, run: Run, tmp_path: Path) -> None:
    """429 and 503 delay an upload by the time asked for and lose nothing."""
    (tmp_path / "0.txt").write_text("note")
    api.fail_next(429, path="/v1/documents", code="rate_limited", retry_after=1)
    ran = run("ingest", str(tmp_path))
    assert ran.code == 0
    assert "Trying again in 1 s" in ran.err


def test_daemon_restarting_in_the_middle_loses_nothing(api: FakeApi, run: Run, tmp_path: Path) -> None:
    """The connection breaks mid-upload and the daemon stays away for seconds: ingest waits and completes."""
    for number in range(250):
        (tmp_path / f"{number}.txt").write_text(f"note {number}")
    big = tmp_path / "big.txt"
    big.write_bytes(b"x" * 3_000_000)
    api.drop_next(path="/v1/documents")
    api.drop_next(path="/v1/documents")

    def restart() -> None:
        while not api.uploads:
            time.sleep(0.005)
        api.stop()
        time.sleep(2)
        api.start()

    thread = threading.Thread(target=restart)
    thread.start()
    ran = run("ingest", str(tmp_path), "--json")
    thread.join()
    assert ran.code == 0, ran.err
    assert ran.json["documents"] == len(api.documents) == 251
    assert "Waiting for it" in ran.err


def test_a_refused_key_ends_the_ingest(api: FakeApi, run: Run, tmp_path: Path) -> None:
    """401 stops everything with one error: no file can succeed."""
    (tmp_path / "0.txt").write_text("note")
    api.fail_next(401, path="/v1/documents", code="unauthorized")
    ran = run("ingest", "--json", str(tmp_path))
    assert ran.code == 1
    assert ran.json["error"]["code"] == "unauthorized"


def test_ingest_without_a_daemon_fails_at_once(run: Run, tmp_path: Path) -> None:
    """Nobody waits a minute for a daemon that was never there."""
    started = time.monotonic()
    assert run("ingest", str(tmp_path)).code == 2
    assert time.monotonic() - started < 30
