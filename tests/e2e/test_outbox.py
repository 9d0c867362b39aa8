"""Two hosts, and the one with the database is away: the other keeps messages, is killed, and sends them in the end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.harness import Daemon, UnixConnection, events

pytestmark = pytest.mark.engine

PORT = 27671
BIN = Path(sys.executable).parent
SECRET = "The PIN of the alarm is 4711."


def ctl(daemon: Daemon, *words: str) -> Any:
    argv = [str(BIN / "morganctl"), "--json", "--data-dir", str(daemon.data_dir), *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Daemon, Daemon]]:
    """The host with the database and etcd, and the gateway that joined it."""
    shared = (f"cluster.port={PORT}", "roles.db.forbid=host2")  # nobody can take the database over
    made = [Daemon(tmp_path / f"h{n}", (f"host.name=host{n}", f"host.address=127.0.8.{n}", *shared)) for n in (1, 2)]
    first, second = made
    try:
        first.start()
        invitation = ctl(first, "cluster", "invite")
        argv = [sys.executable, "-m", "morgand", "join", invitation["address"], "-"]
        for setting in (f"host.data_dir={second.data_dir}", *second.settings):
            argv += ["--set", setting]
        subprocess.run(argv, input=invitation["token"], capture_output=True, text=True, timeout=120, check=True)
        second.start(ready=("db", "core", "llm"))
        yield first, second
    finally:
        for one in (second, first):
            if one.process is not None:
                one.stop()


def test_nothing_kept_is_lost_doubled_or_disordered(hosts: tuple[Daemon, Daemon]) -> None:
    """The database's host stops; messages are kept on the other, which is killed; both come back."""
    first, second = hosts
    status, begun = second.turn("Before.", answer=False)
    assert status == 200, begun
    conversation = begun["conversation"]
    assert first.stop() == 0

    said: list[tuple[str, str]] = []
    for text in (SECRET, "Second.", "Third."):
        turn, began_s = str(uuid.uuid4()), time.monotonic()
        status, body = second.turn(text, turn_id=turn, conversation=conversation, answer=False)
        assert (status, body["queued"]) == (202, True), body
        assert "kept on host2" in body["message"]
        assert time.monotonic() - began_s < 30
        said.append((turn, text))
    asked, question = str(uuid.uuid4()), "Hello, how are you?"
    assert [name for name, _ in streamed(second, asked, question, conversation)] == ["queued"]

    engines = second.kill()
    psutil.wait_procs(engines, timeout=60)
    for file in (second.data_dir / "outbox").iterdir():
        assert b"4711" not in file.read_bytes()
    second.start(ready=())
    status, body = second.turn(SECRET, turn_id=said[0][0], conversation=conversation, answer=False)
    assert status == 202
    assert len(ctl(second, "conversations", "waiting")["messages"]) == 4
    assert any("4 messages wait on host2" in one for one in ctl(second, "status")["warnings"])

    first.start(ready=("db", "core", "llm"))
    second.until(lambda: not ctl(second, "conversations", "waiting")["messages"], 120, "everything is sent")
    messages = first.request("GET", f"/v1/conversations/{conversation}/messages")[1]["messages"]
    assert [one["text"] for one in messages if one["role"] == "user"] == [
        "Before.", *(text for _, text in said), question,
    ]  # fmt: skip
    assert [one["role"] for one in messages][-2:] == ["user", "assistant"]
    status, body = second.turn(question, turn_id=asked, conversation=conversation)
    assert (status, body["answer"]) == (200, messages[-1]["text"])
    status, body = second.turn(SECRET, turn_id=said[0][0], conversation=conversation, answer=False)
    assert status == 200
    assert len(first.request("GET", f"/v1/conversations/{conversation}/messages")[1]["messages"]) == len(messages)
    assert list((second.data_dir / "outbox").iterdir()) == []
    assert not any("wait on host2" in one for one in ctl(second, "status")["warnings"])


def streamed(daemon: Daemon, turn: str, text: str, conversation: str) -> list[tuple[str, Any]]:
    """All events of one turn."""
    connection = UnixConnection(daemon.data_dir / "morgand.sock", 60)
    try:
        body = {"id": turn, "text": text, "conversation": conversation, "stream": True}
        connection.request("POST", "/v1/turns", json.dumps(body), {"Content-Type": "application/json"})
        return list(events(connection.getresponse()))
    finally:
        connection.close()
