"""What goes wrong at the door: each gets a clear error, and nothing stored is lost or half-written."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from morgand.base.datadir import DataDir
from tests.e2e.harness import Daemon

pytestmark = pytest.mark.engine
TURN = "6d1f295f-f5e4-4e19-832e-86cb7682dde3"  # the same for all who collect: tests are known by their parameters


def morgand(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "morgand", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def encrypted_pdf() -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, encrypt=StandardEncryption("secret", canPrint=0))
    canvas.drawString(100, 700, "You cannot read this.")
    canvas.save()
    return buffer.getvalue()


REFUSED = {
    "empty.txt": b"",
    "spaces.md": b"   \n\t\n  ",
    "corrupt.pdf": b"%PDF-1.7\nthis is not a pdf at all",
    "truncated.docx": b"PK\x03\x04" + os.urandom(200),
    "encrypted.pdf": encrypted_pdf(),
    "office-encrypted.docx": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
    "picture.txt": b"\x89PNG\r\n\x1a\n" + os.urandom(500),
    "archive.zip": b"PK\x05\x06" + bytes(18),
    "program.exe": b"MZ" + os.urandom(500),
}


def test_unreadable_documents_fail_by_name_and_others_go_on(running: Daemon) -> None:
    """Each bad file is refused or failed with a reason of its own; a good file in the same upload is completed."""
    good = "Latin-1 café: the naïve façade was painted in 1987 by the neighbours.".encode("latin-1")
    status, body = running.upload({**REFUSED, "latin1.txt": good})
    assert status == 202, body
    running.until(running.settled, 120, "documents settled")
    failed = {one["name"]: one["error"] for one in running.documents() if one["state"] == "failed"}
    failed |= {one["name"]: one["error"]["message"] for one in body["results"] if one["result"] == "refused"}
    assert set(REFUSED) <= set(failed)
    assert all(failed[name] for name in REFUSED)
    assert "encrypted" in failed["encrypted.pdf"].lower() or "password" in failed["encrypted.pdf"].lower()
    status, found = running.request("POST", "/v1/search", {"text": "façade painted 1987", "limit": 3})
    assert status == 200
    assert any("façade" in one["text"] for one in found["passages"])


def test_document_over_the_limit_refuses_only_itself(daemon: Daemon) -> None:
    """The limit and its key are named, the good file beside it is taken, and the spool is left empty."""
    daemon.settings = ("limits.document_mb=1",)
    daemon.start(ready=("core", "db"))
    status, body = daemon.upload({"huge.txt": b"word " * 300_000, "small.txt": b"The gate code is 4711."})
    assert status == 202
    huge, small = body["results"]
    assert huge["result"] == "refused"
    assert huge["error"]["code"] == "too_large"
    assert "1 MiB" in huge["error"]["message"]
    assert "limits.document_mb" in huge["error"]["remedy"]
    assert small["result"] != "refused"
    daemon.until(daemon.settled, 120, "document settled")
    assert [one["name"] for one in daemon.documents()] == ["small.txt"]
    assert not list((daemon.data_dir / "spool").iterdir())


def test_names_are_only_names(running: Daemon) -> None:
    """Path parts and control characters in a file name reach neither the file system nor a terminal."""
    status, body = running.upload({"../../../etc/evil.txt": b"The gate code of the allotment is 4711, says Ada."})
    assert status == 202
    name = body["results"][0]["name"]
    assert "/" not in name
    assert not Path("/etc/evil.txt").exists()


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b"{not json", "JSON"),
        (b"[]", "object"),
        (json.dumps({"id": TURN, "text": 5}).encode(), "text"),
        (json.dumps({"id": "no-uuid", "text": "x"}).encode(), "id"),
        (json.dumps({"id": TURN, "text": "x", "colour": 1}).encode(), "colour"),
        (json.dumps({"id": TURN}).encode(), "text"),
        (b'{"id": "\xff\xfe"}', ""),
    ],
)
def test_malformed_turns(running: Daemon, raw: bytes, word: str) -> None:
    """Malformed JSON, wrong types, missing and unknown fields: 400 that names the field."""
    status, body = running.request("POST", "/v1/turns", raw=raw)
    assert status == 400
    assert word in body["error"]["message"]


def test_oversized_body(running: Daemon) -> None:
    """A body over the limit is refused with the limit in the message."""
    raw = json.dumps({"id": str(uuid.uuid4()), "text": "x" * 2_000_000}).encode()
    status, body = running.request("POST", "/v1/turns", raw=raw)
    assert status == 413
    assert "1" in body["error"]["message"]


def test_prompt_beyond_the_context(running: Daemon) -> None:
    """A message longer than the model's context is refused; the conversation goes on."""
    conversation = str(uuid.uuid4())
    status, body = running.turn("word " * 30_000, conversation=conversation)
    assert status in (400, 413)
    assert "long" in body["error"]["message"] or "limit" in body["error"]["message"]
    status, body = running.turn("Hello!", conversation=conversation)
    assert status == 200
    assert body["answer"]


def test_second_daemon_on_the_same_directory(running: Daemon) -> None:
    """It ends at once, naming the process that holds the directory; the first is untouched."""
    second = morgand("run", "--set", f"host.data_dir={running.data_dir}")
    assert second.returncode == 1
    assert f"process {running.pid}" in second.stderr
    assert running.request("GET", "/health/live")[0] == 200


def test_taken_port(tmp_path: Path) -> None:
    """A port somebody else listens on is named with the setting to change; nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = morgand("run", "--set", f"host.data_dir={tmp_path / 'd'}", "--set", f"api.listen=127.0.0.1:{port}")
    assert ended.returncode == 1
    assert str(port) in ended.stderr
    assert "api.listen" in ended.stderr


def test_all_configuration_faults_at_once(tmp_path: Path) -> None:
    """Unknown keys name the nearest known one; every fault is listed; exit code 78."""
    file = tmp_path / "morgan.toml"
    file.write_text("[llm]\ntemprature = 1\nmax_tokens = 0\n[hots]\nname = 'x'\n[limits]\nqueue = 'many'\n")
    ended = morgand("run", "--config", str(file))
    assert ended.returncode == 78
    for word in ("temprature", "temperature", "max_tokens", "hots", "'host'", "limits.queue", "4 faults"):
        assert word in ended.stderr
    assert "Traceback" not in ended.stderr


def test_copied_data_directory_is_refused(tmp_path: Path) -> None:
    """A copy of a host's data directory is not the same host: it is refused with the remedy."""
    original = Daemon(tmp_path / "data")
    original.start(ready=("db",))
    original.stop()
    subprocess.run(["cp", "-a", str(tmp_path / "data"), str(tmp_path / "copy")], check=True)
    ended = morgand("run", "--set", f"host.data_dir={tmp_path / 'copy'}", "--set", "api.listen=off")
    assert ended.returncode == 1
    assert "host.json" in ended.stderr


def test_missing_model_file_fails_its_role_with_the_remedy(tmp_path: Path) -> None:
    """A catalogue that names a file that is not there: the role is not placed or fails in words, the rest goes on."""
    catalogue = tmp_path / "models.toml"
    shipped = Path(__file__).parents[2] / "morgand" / "roles" / "models.toml"
    catalogue.write_text(
        shipped.read_text().replace("ms-marco-MiniLM-L-12-v2.onnx", "gone").replace("reranker_en", "gone")
    )
    one = Daemon(tmp_path / "data", (f"catalog.file={catalogue}",))
    try:
        one.start(ready=("core", "db", "embedder", "vectors"))
        status, body = one.request("GET", "/v1/status")
        assert status == 200
        assert any("reranker" in warning for warning in body["warnings"])
        status, body = one.upload(
            {"gate.txt": b"The gate code of the allotment is 4711.\n\nThe shed key hangs in the cellar."}
        )
        assert status == 202, body
        one.until(one.settled, 120, "document settled")
        status, body = one.request("POST", "/v1/search", {"text": "gate code", "limit": 3})
        assert status == 200
        assert any("4711" in found["text"] for found in body["passages"]), (one.documents(), body)
        assert body["notices"]
    finally:
        one.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MB."""
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def fill(file: Path) -> None:
    """Write until the disk is full."""
    with file.open("wb", buffering=0) as stream:
        while True:
            try:
                if stream.write(bytes(1 << 16)) == 0:
                    return
            except OSError:
                return


def test_full_disk(small_disk: Path) -> None:
    """With the disk full nothing acknowledged is lost, errors say so, and service returns with the space."""
    roomy = small_disk.parent / "facts.json"  # what the roles ask for is more than this test should have to fill
    roomy.write_text(json.dumps({"disk": {"free_mb": 50_000, "total_mb": 50_000}}))
    one = Daemon(small_disk / "data", ("log.level=warning", f"host.profile_override={roomy}"))
    one.log = small_disk.parent / "daemon.log"
    one.start(ready=("core", "db", "llm"))
    try:
        conversation = str(uuid.uuid4())
        status, body = one.turn("Before the disk was full.", conversation=conversation, answer=False)
        assert status == 200, body
        filler = small_disk / "filler"
        fill(filler)
        acknowledged = ["Before the disk was full."]
        refused = 0
        for number in range(40):
            text = f"Note {number}: " + "n" * 4000
            status, body = one.turn(text, conversation=conversation, answer=False)
            assert status in (200, 507), body
            if status == 200:
                acknowledged.append(text)
            else:
                refused += 1
                assert "disk" in body["error"]["message"].lower() or "space" in body["error"]["message"].lower()
        assert refused
        status, body = one.upload({"big.txt": b"word " * 100_000})
        assert status in (202, 507)
        filler.unlink()
        status, _ = one.turn("After space came back.", conversation=conversation, answer=False)
        assert status == 200
        status, body = one.request("GET", f"/v1/conversations/{conversation}/messages")
        assert [message["text"] for message in body["messages"]] == [*acknowledged, "After space came back."]
    finally:
        one.stop()


def test_a_full_disk_at_the_first_start(small_disk: Path) -> None:
    """It is told; with some space it starts."""
    filler = small_disk / "filler"
    fill(filler)
    ended = morgand("run", "--set", f"host.data_dir={small_disk / 'new' / 'data'}")
    assert (ended.returncode, "Free some space and start again" in ended.stderr) == (1, True), ended.stderr
    filler.unlink()
    with DataDir(small_disk / "new" / "data"):
        pass


def test_read_only_data_directory(small_disk: Path) -> None:
    """A read-only file system is named at start, with what to do."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    ended = morgand("run", "--set", f"host.data_dir={small_disk / 'data'}", "--set", "api.listen=off")
    assert ended.returncode == 1
    assert "read-only" in ended.stderr
    assert "Traceback" not in ended.stderr
