"""kill -9 in the middle of things: nothing acknowledged is missing or doubled, nothing is left running."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from functools import partial

import psutil
import pytest

from tests.e2e.harness import Daemon, UnixConnection, events

pytestmark = pytest.mark.engine

FILES = 200


def text_of(number: int) -> bytes:
    """A small document with a fact of its own."""
    return (
        f"# Shelf {number}\n\nShelf number {number} holds the box with code KX{number:04d}. "
        f"It was labelled in the year {1800 + number} and must be opened from the left side.\n"
    ).encode()


def test_kill_in_the_middle_of_an_ingest_of_200_files(daemon: Daemon) -> None:
    """Every acknowledged file is there once after the restart, completed, searchable; no engine is left."""
    daemon.start()
    acknowledged: list[str] = []
    for first in range(0, FILES, 20):
        status, body = daemon.upload({f"shelf-{n}.md": text_of(n) for n in range(first, first + 20)})
        assert status == 202, body
        acknowledged += [one["name"] for one in body["results"] if one["result"] == "accepted"]
    daemon.until(lambda: any(one["state"] == "completed" for one in daemon.documents()), 120, "a first document")
    done_before = sum(one["state"] == "completed" for one in daemon.documents())
    assert done_before < FILES, "the ingest ended before it could be interrupted"
    engines = daemon.kill()
    _, alive = psutil.wait_procs(engines, timeout=60)
    assert alive == []

    daemon.start()
    again, body = daemon.upload({"shelf-3.md": text_of(3)})
    assert again == 202
    assert body["results"][0]["result"] == "unchanged"
    daemon.until(daemon.settled, 300, "all documents settled")
    counts = Counter(one["name"] for one in daemon.documents() if one["state"] == "completed")
    assert counts == Counter(acknowledged)
    for number in (0, 77, FILES - 1):  # what is completed comes into the index a moment later
        daemon.until(partial(is_found, daemon, number), 30, f"shelf {number} found")


def is_found(daemon: Daemon, number: int) -> bool:
    status, body = daemon.request("POST", "/v1/search", {"text": f"KX{number:04d}", "limit": 3})
    assert status == 200
    first = body["passages"][0]
    return first["title"].startswith(("Shelf", f"shelf-{number}")) and f"KX{number:04d}" in first["text"]


def test_kill_in_the_middle_of_an_answer(daemon: Daemon) -> None:
    """The acknowledged message survives; the same id again completes the turn once."""
    daemon.start()
    turn, conversation = str(uuid.uuid4()), str(uuid.uuid4())
    status, _ = daemon.turn("Remember the bins.", conversation=conversation, answer=False)
    assert status == 200
    connection = UnixConnection(daemon.data_dir / "morgand.sock", 60)
    text = "Tell me a long story about a lighthouse."
    body = {"id": turn, "conversation": conversation, "text": text, "stream": True}
    connection.request("POST", "/v1/turns", json.dumps(body), {"Content-Type": "application/json"})
    seen = events(connection.getresponse())
    name, _ = next(seen)
    assert name == "accepted"
    engines = daemon.kill()
    connection.close()
    _, alive = psutil.wait_procs(engines, timeout=60)
    assert alive == []

    daemon.start()
    for _ in range(2):
        status, reply = daemon.turn(text, turn_id=turn, conversation=conversation)
        assert status == 200
        assert reply["answer"]
    status, listed = daemon.request("GET", f"/v1/conversations/{conversation}/messages")
    assert status == 200
    roles = [one["role"] for one in listed["messages"]]
    assert roles == ["user", "user", "assistant"]


def test_stop_in_good_order(daemon: Daemon) -> None:
    """SIGTERM ends daemon and engines with exit code 0 and removes the socket."""
    daemon.start()
    engines = daemon.engines()
    assert engines
    assert daemon.stop() == 0
    _, alive = psutil.wait_procs(engines, timeout=60)
    assert alive == []
    assert not (daemon.data_dir / "morgand.sock").exists()
