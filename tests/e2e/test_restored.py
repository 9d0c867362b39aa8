"""A data directory that was put back, moved or copied: nobody's data are lost by it, and no host is there twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Daemon, away_and_back

pytestmark = pytest.mark.engine

GATE = b"The gate code of the allotment is 4711.\n\nThe shed key hangs in the cellar."


def run(one: Daemon) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "morgand", "run", "--set", f"host.data_dir={one.data_dir}", "--set", "api.listen=off"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def from_another_machine(one: Daemon) -> None:
    file = one.data_dir / "host.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "machine": "another one", "path": "/var/lib/elsewhere"}))


def whole(one: Daemon) -> dict[str, Any]:
    """The status of a host that has everything it was given, and can be given more."""
    one.until(one.settled, 120, "documents settled")
    assert [(doc["name"], doc["state"]) for doc in one.documents()] == [("gate.txt", "completed")]
    assert one.turn("A note.", answer=False)[0] == 200
    status, told = one.request("GET", "/v1/status")
    assert (status, len(told["hosts"]), told["hosts"][0]["state"]) == (200, 1, "alive")
    assert {role["host"] for role in told["roles"]} == {told["hosts"][0]["id"]}
    found: dict[str, Any] = told
    return found


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Daemon]:
    """A host that was given a document, and stopped."""
    one = Daemon(tmp_path / "data")
    try:
        one.start(ready=("core", "db", "embedder", "vectors", "objects"))
        assert one.upload({"gate.txt": GATE})[0] == 202
        one.until(one.settled, 120, "document settled")
        one.stop()
        yield one
    finally:
        if one.process is not None:
            one.stop()


def test_a_lone_host_that_was_put_back_goes_on(lone: Daemon) -> None:
    before = json.loads((lone.data_dir / "host.json").read_text())["host"]
    away_and_back(lone)
    lone.start(ready=("core", "db"))
    assert whole(lone)["hosts"][0]["id"] == before


def test_a_lone_host_on_another_machine_takes_its_store_over(lone: Daemon) -> None:
    """It is refused as a copy; the remedy that is told ends in a host with all its data, and nobody else is left."""
    before = json.loads((lone.data_dir / "host.json").read_text())["host"]
    from_another_machine(lone)
    ended = run(lone)
    assert (ended.returncode, "was copied from another machine" in ended.stderr) == (1, True)
    assert f"delete {lone.data_dir / 'host.json'} and start again" in ended.stderr
    (lone.data_dir / "host.json").unlink()
    lone.start(ready=("core", "db"))
    assert whole(lone)["hosts"][0]["id"] != before
    lone.stop()
    lone.start(ready=("core", "db"))
    whole(lone)


BARE = """
mount --bind /dev/null /etc/machine-id
mount --bind /dev/null /var/lib/dbus/machine-id 2>/dev/null
ip link set lo up
exec "$@"
"""


@pytest.mark.skipif(
    subprocess.run(["unshare", "-mn", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs namespaces of mounts and of the network",
)
def test_a_bare_container_starts_again(tmp_path: Path) -> None:
    """Without a machine id and a network card nothing but the directory says which host it is."""
    one = Daemon(tmp_path / "data", prefix=("unshare", "-mn", "sh", "-c", BARE, "sh"))
    try:
        for _ in range(3):
            one.start(ready=("db",))
            assert one.stop() == 0
        away_and_back(one)
        one.start(ready=("db",))
    finally:
        one.stop()
