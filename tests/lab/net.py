"""Hosts as network namespaces: one bridge, an address each, and faults of the network.

Everything is in namespaces of this run's own name. A guardian process outlives the laboratory and clears up after it,
also when it is killed: it waits for its stdin to close, ends what runs in these namespaces and deletes them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

NETWORK = "10.77.0"


def usable() -> str | None:
    """Why no laboratory can be made here, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "iproute2 is not installed"
    name = f"mlab-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return "this system makes no network namespaces"
    _ip("netns", "del", name)
    return None


class Net:
    """A switch and ``names`` plugged into it; a context manager."""

    def __init__(self, names: Sequence[str]) -> None:
        self._run = f"mlab-{os.getpid():x}-{int(time.time()) & 0xFFFF:x}"
        self.addresses = {name: f"{NETWORK}.{number}" for number, name in enumerate(names, start=11)}
        self._guardian: subprocess.Popen[bytes] | None = None

    def namespace(self, name: str) -> str:
        return f"{self._run}-{name}"

    def __enter__(self) -> Self:
        switch = self.namespace("switch")
        spaces = [switch, *(self.namespace(name) for name in self.addresses)]
        self._guardian = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.net", *spaces], stdin=subprocess.PIPE, start_new_session=True
        )
        for space in spaces:
            _ip("netns", "add", space)
            _ip("-n", space, "link", "set", "lo", "up")
        _ip("-n", switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", switch, "link", "set", "br0", "up")
        for name, address in self.addresses.items():
            self._plug(switch, name, address)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._guardian is not None
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()
        self._guardian.wait(timeout=30)

    def _plug(self, switch: str, name: str, address: str) -> None:
        space = self.namespace(name)
        port = f"p{address.rpartition('.')[2]}"
        _ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("-n", switch, "link", "set", port, "master", "br0", "up")
        _ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")
        _ip("-n", space, "route", "add", "default", "via", f"{NETWORK}.1")  # nothing is there; a home has a router

    def add_interface(self, name: str, device: str, address: str) -> None:
        """A further interface that leads nowhere: a container bridge, a VPN."""
        space = self.namespace(name)
        _ip("-n", space, "link", "add", device, "type", "dummy")
        _ip("-n", space, "addr", "add", f"{address}/16", "dev", device)
        _ip("-n", space, "link", "set", device, "up")

    def without_multicast(self, name: str) -> None:
        _ip("-n", self.namespace(name), "link", "set", "eth0", "multicast", "off")

    def unplug(self, name: str) -> None:
        _ip("-n", self.namespace("switch"), "link", "set", f"p{self.addresses[name].rpartition('.')[2]}", "down")

    def plug(self, name: str) -> None:
        _ip("-n", self.namespace("switch"), "link", "set", f"p{self.addresses[name].rpartition('.')[2]}", "up")

    def deafen(self, source: str, target: str) -> None:
        """What ``source`` sends to ``target`` is lost; the other way is open."""
        _ip("-n", self.namespace(source), "route", "replace", "blackhole", f"{self.addresses[target]}/32")

    def part(self, one: Iterable[str], other: Iterable[str]) -> None:
        """Two groups that do not hear each other."""
        for left in one:
            for right in other:
                self.deafen(left, right)
                self.deafen(right, left)

    def heal(self) -> None:
        for name in self.addresses:
            for target in self.addresses.values():
                _ip("-n", self.namespace(name), "route", "del", "blackhole", f"{target}/32", check=False)

    def processes(self, name: str) -> list[int]:
        return _processes(self.namespace(name))


def _ip(*words: str, check: bool = True) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _processes(space: str) -> list[int]:
    found = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


def clear(spaces: Sequence[str]) -> None:
    """End what runs in these namespaces and delete them."""
    for space in spaces:
        for _ in range(50):
            running = _processes(space)
            for process in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            if not running:
                break
            time.sleep(0.1)
        _ip("netns", "del", space, check=False)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.buffer.read()  # until the laboratory closes it, or is no more
    clear(sys.argv[1:])
