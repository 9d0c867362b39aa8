"""Hosts as network namespaces: one bridge, an address each, and faults of the network.

Everything is in namespaces of this run's own name; the bridge has one of its own, so the root namespace gets nothing.
What is lost is dropped by the switch, without a word to who sent it.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.lab import guardian
from tests.lab.filters import mac, program

NETWORK = "10.77.0"


@functools.cache
def usable() -> str | None:
    """Why no laboratory can be made here, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "iproute2 is not installed"
    probe = f"mlab-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode:
        return "this system makes no network namespaces"
    try:
        _tc(probe, "qdisc", "add", "dev", "lo", "clsact")
        _tc(probe, "filter", "add", "dev", "lo", "egress", "bpf", "da", "bytecode", program({}, multicast=True))
    except AssertionError as err:
        return f"the kernel drops no packets on demand ({err})"
    finally:
        _ip("netns", "del", probe)
    return None


class Net:
    """A switch and ``names`` plugged into it; a context manager."""

    def __init__(self, names: Sequence[str]) -> None:
        self.run = f"mlab-{os.getpid():x}-{int(time.time() * 1000) & 0xFFFFFF:x}"
        self._numbers = dict(zip(names, range(11, 11 + len(names)), strict=True))
        self.addresses = {name: f"{NETWORK}.{number}" for name, number in self._numbers.items()}
        self._deaf: dict[str, dict[int, float]] = {name: {} for name in names}
        self._no_multicast: set[str] = set()
        self._beatless: dict[str, set[int]] = {name: set() for name in names}
        self._extra: dict[str, dict[str, str]] = {name: {} for name in names}
        self._relays: dict[str, subprocess.Popen[bytes]] = {}
        self._guardian: guardian.Guardian | None = None

    def namespace(self, name: str) -> str:
        return f"{self.run}-{name}"

    @property
    def _switch(self) -> str:
        return self.namespace("switch")

    def _port(self, name: str) -> str:
        return f"p{self._numbers[name]}"

    def __enter__(self) -> Self:
        guardian.sweep()
        self._guardian = guardian.Guardian(self.run, [self._switch, *map(self.namespace, self.addresses)])
        try:
            _ip("netns", "add", self._switch)
            _ip("-n", self._switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
            _ip("-n", self._switch, "link", "set", "br0", "up")
            for name in self.addresses:
                self._add(name)
        except BaseException:
            self._guardian.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._guardian is not None
        for name in list(self._relays):
            self._hasten(name)
        self._guardian.close()

    def _add(self, name: str) -> None:
        space, port = self.namespace(name), self._port(name)
        _ip("netns", "add", space)
        _ip("-n", space, "link", "set", "lo", "up")
        _ip("-n", self._switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("-n", space, "link", "set", "eth0", "address", mac(self._numbers[name]))
        _ip("-n", space, "addr", "add", f"{self.addresses[name]}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")
        _ip("-n", space, "route", "add", "default", "via", f"{NETWORK}.1", "metric", "100")  # a home has a router
        _tc(self._switch, "qdisc", "add", "dev", port, "clsact")
        _ip("-n", self._switch, "link", "set", port, "master", "br0", "up")
        for device, address in self._extra[name].items():
            self._add_device(name, device, address)
        self._filter(name)

    def renew(self, name: str) -> None:
        """A host as after a power cut: its kernel knows nothing of any connection. What is inside is ended."""
        self._hasten(name)
        _ip("-n", self._switch, "link", "del", self._port(name), check=False)
        guardian.clear([self.namespace(name)])
        self._add(name)

    # --- interfaces ------------------------------------------------------------------------------

    def add_interface(self, name: str, device: str, address: str) -> None:
        """A further interface that leads nowhere; ``address`` is CIDR. ``tun...`` is a VPN, others a bridge."""
        self._extra[name][device] = address
        self._add_device(name, device, address)

    def _add_device(self, name: str, device: str, address: str) -> None:
        space = self.namespace(name)
        if device.startswith("tun"):
            _ip("-n", space, "tuntap", "add", device, "mode", "tun")
        else:
            _ip("-n", space, "link", "add", device, "type", "bridge")
            _ip("-n", space, "link", "add", f"c-{device}"[:15], "type", "veth", "peer", "name", f"d-{device}"[:15])
            for end in (f"c-{device}"[:15], f"d-{device}"[:15]):  # a container, so that the bridge has a carrier
                _ip("-n", space, "link", "set", end, "up")
            _ip("-n", space, "link", "set", f"c-{device}"[:15], "master", device)
        _ip("-n", space, "addr", "add", address, "dev", device)
        _ip("-n", space, "link", "set", device, "up")
        if device.startswith("tun"):  # a VPN takes all traffic that is not for the local network
            _ip("-n", space, "route", "add", "default", "dev", device, "metric", "50")

    # --- faults ----------------------------------------------------------------------------------

    def unplug(self, name: str) -> None:
        _ip("-n", self._switch, "link", "set", self._port(name), "down")

    def plug(self, name: str) -> None:
        _ip("-n", self._switch, "link", "set", self._port(name), "up")

    def without_multicast(self, name: str) -> None:
        """Multicast neither reaches this host nor leaves it, as behind many a Wi-Fi access point."""
        self._no_multicast.add(name)
        self._filter(name)

    def deafen(self, source: str, target: str, share: float = 1.0) -> None:
        """This share of what ``source`` sends to ``target`` is lost; the other way is untouched."""
        self._deaf[target][self._numbers[source]] = share
        self._filter(target)

    def cut_off(self, name: str, *, hears: bool = False, sends: bool = False) -> None:
        """From every other host, both ways, or all but one."""
        for other in self.addresses:
            if other != name and not hears:
                self.deafen(other, name)
            if other != name and not sends:
                self.deafen(name, other)

    def lose(self, name: str, share: float) -> None:
        """A bad cable: this share of the frames is lost, each way."""
        for other in self.addresses:
            if other != name:
                self.deafen(name, other, share)
                self.deafen(other, name, share)

    def silence(self, name: str) -> None:
        """Nobody gets its heartbeats any more; everything else passes."""
        for other in self.addresses:
            if other != name:
                self._beatless[other].add(self._numbers[name])
                self._filter(other)

    def delay(self, name: str, delay_ms: float, jitter_ms: float) -> None:
        """Frames to and from this host take longer, each way; with jitter they overtake each other."""
        self._hasten(name)
        port, tap = self._port(name), f"t{self._numbers[name]}"
        words = ("-m", "tests.lab.relay", port, tap, str(delay_ms), str(jitter_ms))
        argv = ["ip", "netns", "exec", self._switch, sys.executable, *words]
        relay = self._relays[name] = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert relay.stdout is not None
        if relay.stdout.readline() != b"ready\n":
            raise AssertionError(f"the frames of {name} cannot be delayed: is there a /dev/net/tun?")
        _ip("-n", self._switch, "link", "set", port, "nomaster")
        _ip("-n", self._switch, "link", "set", port, "promisc", "on")
        _ip("-n", self._switch, "link", "set", tap, "master", "br0", "up")

    def _hasten(self, name: str) -> None:
        """Nothing is late any more; what was held is lost."""
        relay = self._relays.pop(name, None)
        if relay is None:
            return
        assert relay.stdout is not None
        relay.terminate()
        relay.wait(timeout=10)
        relay.stdout.close()
        _ip("-n", self._switch, "link", "set", self._port(name), "promisc", "off", check=False)
        _ip("-n", self._switch, "link", "set", self._port(name), "master", "br0", check=False)

    def heal(self) -> None:
        """Nothing is lost and nothing is late any more; multicast stays as it is."""
        for name in self.addresses:
            self._deaf[name].clear()
            self._beatless[name].clear()
            self._filter(name)
            self._hasten(name)

    def _filter(self, name: str) -> None:
        """Bring the port's programs in line with who hears whom."""
        multicast = name not in self._no_multicast
        programs = {
            "egress": program(self._deaf[name], multicast=multicast, beatless=self._beatless[name]),
            "ingress": program({}, multicast=multicast),
        }
        for way, code in programs.items():
            place = ("dev", self._port(name), way, "protocol", "all", "pref", "1", "handle", "1")
            _tc(self._switch, "filter", "replace", *place, "bpf", "da", "bytecode", code)


def _ip(*words: str, check: bool = True) -> None:
    _run(["ip", *words], check=check)


def _tc(space: str, *words: str, check: bool = True) -> None:
    _run(["tc", "-n", space, *words], check=check)


def _run(argv: Sequence[str], *, check: bool) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(argv)}: {done.stderr.strip()}")
