"""The laboratory's own network: what each fault does, and that nothing stays behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.lab import guardian
from tests.lab.filters import BEATS, program
from tests.lab.inside import connect, hears, inside
from tests.lab.net import Net, usable

GROUP = "224.0.0.251"


@pytest.fixture
def net() -> Iterator[Net]:
    reason = usable()
    if reason is not None:
        pytest.skip(f"no laboratory here: {reason}")
    with Net(["one", "two", "three"]) as made:
        yield made


def heard(net: Net, speaker: str, listener: str, *, count: int = 3, group: str = "") -> int:
    ear = (net.namespace(listener), net.addresses[listener])
    return hears(ear, net.namespace(speaker), count=count, group=group)


def test_a_program_says_who_is_not_heard() -> None:
    """Source addresses are compared at byte 8, a share of loss by 32 random bits, the rest passes."""
    assert program({}, multicast=True) == "1,6 0 0 4294967295"
    assert program({11: 1.0}, multicast=True) == "4,32 0 0 8,21 0 1 11,6 0 0 2,6 0 0 4294967295"
    assert program({11: 0.5}, multicast=True).startswith("6,32 0 0 8,21 0 3 11,32 0 0 4294963256,53 1 0 2147483648,")
    assert program({}, multicast=False).startswith("5,40 0 0 0,")
    with pytest.raises(ValueError, match="between 0 and 1"):
        program({11: 1.5}, multicast=True)


@pytest.mark.lab
def test_a_partition_is_silent_and_heals(net: Net) -> None:
    """Hosts of different groups do not hear each other and are not told so; those of one group do."""
    assert heard(net, "one", "two") == heard(net, "two", "one") == 3
    net.cut_off("one")
    assert heard(net, "one", "two") == heard(net, "two", "one") == 0
    assert heard(net, "two", "three") == 3
    with pytest.raises(TimeoutError):
        connect(net.namespace("one"), net.addresses["two"], 9, timeout_s=1)
    net.heal()
    assert heard(net, "one", "two") == heard(net, "two", "one") == 3
    with pytest.raises(ConnectionRefusedError):
        connect(net.namespace("one"), net.addresses["two"], 9, timeout_s=1)


@pytest.mark.lab
def test_loss_has_a_direction_and_a_share(net: Net) -> None:
    """What one sends is lost while what it is sent arrives; half a loss is about half."""
    assert heard(net, "one", "two") == heard(net, "two", "one") == 3  # neighbours know each other
    net.deafen("one", "two")
    assert heard(net, "one", "two") == 0
    assert heard(net, "two", "one") == 3
    net.heal()
    net.lose("one", 0.5)
    assert 120 < heard(net, "one", "two", count=400) < 280


@pytest.mark.lab
def test_multicast_can_be_missing(net: Net) -> None:
    """A host behind a switch that drops multicast is reached by its address only."""
    assert heard(net, "one", "two", group=GROUP) == 3
    net.without_multicast("two")
    assert heard(net, "one", "two", group=GROUP) == heard(net, "two", "one", group=GROUP) == 0
    assert heard(net, "one", "three", group=GROUP) == heard(net, "one", "two") == 3


@pytest.mark.lab
def test_a_renewed_host_forgets_its_connections(net: Net) -> None:
    """After a power cut nobody is told that connections ended; what is sent on them then is refused."""
    net.add_interface("two", "docker0", "172.17.0.1/16")
    server = inside(net.namespace("two"), lambda: socket.create_server(("", 700)))
    client = connect(net.namespace("one"), net.addresses["two"], 700)
    with server, client:
        accepted, _ = server.accept()
        net.unplug("two")
        net.renew("two")
        accepted.close()
        client.settimeout(1)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.send(b"are you there?")
        client.settimeout(5)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


@pytest.mark.lab
def test_packets_can_be_late(net: Net) -> None:
    """Each way takes the delay, for as long as it lasts; much data arrives whole, though not in order."""
    net.delay("one", 100, 10)
    assert refused_s(net) > 0.15
    server = inside(net.namespace("one"), lambda: socket.create_server(("", 700)))
    with server, connect(net.namespace("two"), net.addresses["one"], 700) as client:
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"x" * 65536)
            assert accepted.recv(65536, socket.MSG_WAITALL) == b"x" * 65536
    net.heal()
    assert min(refused_s(net) for _ in range(5)) < 0.15


def refused_s(net: Net) -> float:
    """How long a connection to a closed port takes."""
    began = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        connect(net.namespace("two"), net.addresses["one"], 9)
    return time.monotonic() - began


@pytest.mark.lab
def test_heartbeats_alone_can_be_lost(net: Net) -> None:
    """Nobody gets what a host sends to the port of heartbeats; it gets theirs, and everything else passes."""
    net.silence("one")
    ears = {name: (net.namespace(name), net.addresses[name]) for name in net.addresses}
    assert hears(ears["two"], net.namespace("one"), port=BEATS) == 0
    assert hears(ears["one"], net.namespace("two"), port=BEATS) == heard(net, "one", "two") == 3
    net.heal()
    assert hears(ears["two"], net.namespace("one"), port=BEATS) == 3


HELD = """
import subprocess, time
from tests.lab import guardian
from tests.lab.net import Net
net = Net(["one", "two"]).__enter__()
child = subprocess.Popen(["ip", "netns", "exec", net.namespace("one"), "sleep", "600"], start_new_session=True)
while not guardian.processes(net.namespace("one")):
    time.sleep(0.05)
print(net.run, net._guardian.pid, child.pid, flush=True)
time.sleep(600)
"""


def ended(process: int) -> bool:
    """Also when nobody has taken notice of its end yet."""
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.lab
@pytest.mark.parametrize("guarded", [True, False])
def test_a_killed_laboratory_leaves_nothing(*, guarded: bool) -> None:
    """Its guardian clears up; when that was killed as well, the next laboratory does. Other runs are left alone."""
    if (reason := usable()) is not None:
        pytest.skip(f"no laboratory here: {reason}")
    with Net(["one"]) as other:
        lab = subprocess.Popen([sys.executable, "-c", HELD], stdout=subprocess.PIPE, text=True)
        assert lab.stdout is not None
        run, keeper, sleeper = lab.stdout.readline().split()
        deadline = time.monotonic() + 20
        if not guarded:
            os.kill(int(keeper), signal.SIGKILL)
        lab.kill()
        lab.wait()
        lab.stdout.close()
        if not guarded:
            while not ended(int(keeper)):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert guardian.sweep() == [run]
        while list(guardian.NAMES.glob(f"{run}-*")) or (guardian.RECORDS / f"{run}.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert ended(int(sleeper))
        assert (guardian.NAMES / other.namespace("one")).exists()
