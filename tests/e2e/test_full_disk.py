"""A host alone whose disk is full to the last block: it refuses clearly, keeps running, and goes on by itself."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Daemon
from tests.lab.disks import Disk

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="to mount a disk needs root"),
]
SAID = "The boiler was serviced in May."


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        made = Disk(tmp_path / "data", 2500)
    except AssertionError as err:
        pytest.skip(f"no disk of its own can be mounted here: {err}")
    yield made
    made.close()


def warned(daemon: Daemon) -> bool:
    status, body = daemon.request("GET", "/v1/status")
    assert status == 200, body
    return any("'s disk is full" in one for one in body["warnings"])


def test_a_full_disk_is_told_nothing_is_half_written_and_all_is_well_with_space_again(disk: Disk) -> None:
    daemon = Daemon(disk.folder)
    try:
        daemon.start(ready=("core", "db", "objects"))
        status, first = daemon.turn(SAID, answer=False)
        assert status == 200, first
        disk.fill()
        daemon.until(lambda: warned(daemon), 120, "a warning")
        refused = str(uuid.uuid4())
        status, body = daemon.turn("x" * 30_000, turn_id=refused, answer=False, conversation=first["conversation"])
        assert (status, body["error"]["code"]) == (507, "storage_full"), body
        status, body = daemon.upload({"manual.txt": b"Close the valve. " * 10_000})
        assert status == 507 or body["documents"][0]["status"] == "refused", body
        assert daemon.process is not None
        assert daemon.process.poll() is None

        disk.empty()
        daemon.until(lambda: not warned(daemon), 120, "no warning any more")
        status, body = daemon.turn("y" * 30_000, turn_id=refused, answer=False, conversation=first["conversation"])
        assert status == 200, body
        status, body = daemon.request("GET", f"/v1/conversations/{first['conversation']}/messages")
        assert [one["text"][:1] for one in body["messages"]] == [SAID[:1], "y"]
    finally:
        ended = daemon.stop()
    assert ended == 0
