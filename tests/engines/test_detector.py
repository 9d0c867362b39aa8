"""The detector as a process: real beats over UDP on loopback, and processes that are killed and frozen."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from morgand.base.clock import SystemClock
from morgand.detector.client import Heartbeats, Orders, Probe, Report
from morgand.detector.lease import LeaseReader
from morgand.state.roles import RoleState

pytestmark = pytest.mark.engine

HOSTS = [str(uuid.UUID(int=number)) for number in range(1, 4)]
KEY, OTHER = "6b" * 32, "6f" * 32
GIVEN_UP_S = 30.0  # a second when nothing else runs


class Program:
    """Keeps nothing running: starts it once, and a test does with it what it likes."""

    def __init__(self) -> None:
        self.process: asyncio.subprocess.Process | None = None

    async def keep(self, _name: str, argv: tuple[str, ...], _probe: Probe, report: Report) -> None:
        self.process = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.PIPE)
        report(RoleState.READY, None)
        try:
            await self.process.wait()
            await asyncio.Event().wait()
        finally:
            if self.process.returncode is None:
                self.process.kill()
                await self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """To the detector alone: the launcher has become it."""
        assert self.process is not None
        os.kill(self.process.pid, number)


class Host:
    def __init__(self, me: str, folder: Path, port: int) -> None:
        self.me, self.port = me, port
        self.program = Program()
        self.beats = Heartbeats(folder, self.program.keep, SystemClock())
        self.task: asyncio.Task[None] | None = None

    def begin(self, others: list[Host], voters: list[str], key: str = KEY) -> None:
        peers = {one.me: ("127.0.0.1", one.port, True) for one in others if one is not self}
        self.beats.order(Orders(self.me, "127.0.0.1", self.port, (key,), peers, tuple(voters)))
        self.task = asyncio.create_task(self.beats.run())

    async def end(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


@asynccontextmanager
async def cluster(tmp_path: Path, count: int = 3, keys: dict[int, str] | None = None) -> AsyncIterator[list[Host]]:
    """``count`` hosts that all vote."""
    hosts = [Host(me, folder(tmp_path, me), free_port()) for me in HOSTS[:count]]
    async with AsyncExitStack() as stack:
        for number, host in enumerate(hosts):
            host.begin(hosts, [one.me for one in hosts], (keys or {}).get(number, KEY))
            stack.push_async_callback(host.end)
        yield hosts


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until(holds: Callable[[], bool], limit_s: float, what: str) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not holds():
        assert loop.time() - began < limit_s, what
        await asyncio.sleep(0.02)
    return loop.time() - began


def dead(observer: Host, other: Host) -> bool:
    sight = observer.beats.sight(other.me)
    return sight is not None and sight.dead


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_host_that_dies_or_freezes_is_given_up_and_its_lease_is_over(
    tmp_path: Path, number: signal.Signals
) -> None:
    """The lease in shared memory ends by itself, before the others agree; a frozen one that returns is well again."""
    async with cluster(tmp_path) as hosts:
        a, b, c = hosts
        await until(lambda: all(one.beats.leased for one in hosts), 60, "everybody has a lease")
        first = c.beats.lease
        c.program.signal(number)
        await until(lambda: dead(a, c) and dead(b, c), GIVEN_UP_S, "the others agree")
        assert not c.beats.leased
        assert a.beats.leased
        assert not dead(a, b)
        if number is signal.SIGSTOP:
            c.program.signal(signal.SIGCONT)
            await until(lambda: c.beats.lease > first, 60, "a new lease")
            await until(lambda: not dead(a, c) and not dead(b, c), 60, "nobody is given up")


async def test_a_host_that_stands_alone_has_no_lease_and_gives_nobody_up(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (a, b, c):
        await until(lambda: all(one.beats.leased for one in (a, b, c)), 60, "everybody has a lease")
        b.program.signal(signal.SIGSTOP)
        c.program.signal(signal.SIGSTOP)
        await until(lambda: not a.beats.leased, GIVEN_UP_S, "the lease is over")
        await asyncio.sleep(2.0)
        assert not dead(a, b)
        assert not dead(a, c)
        assert not a.beats.leased


async def test_a_stranger_is_not_heard(tmp_path: Path) -> None:
    """One with another key: neither side has a majority of two."""
    async with cluster(tmp_path, 2, {1: OTHER}) as (a, b):
        await asyncio.sleep(3.0)
        assert not a.beats.leased
        assert not b.beats.leased


DAEMON = """
import asyncio, sys
from pathlib import Path
import msgspec
from morgand.base.clock import SystemClock
from morgand.detector.client import Heartbeats, Orders

async def keep(name, argv, probe, report):
    process = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.PIPE)
    await process.wait()

beats = Heartbeats(Path(sys.argv[1]), keep, SystemClock())
beats.order(msgspec.json.decode(sys.argv[2], type=Orders))
asyncio.run(beats.run())
"""


async def test_a_daemon_that_does_nothing_any_more_falls_silent(tmp_path: Path) -> None:
    """Its detector runs on, but speaks for nobody; and it does not outlive the daemon."""
    ports = dict(zip(HOSTS, (free_port() for _ in HOSTS), strict=True))
    watchers = [Host(me, folder(tmp_path, me), ports[me]) for me in HOSTS[:2]]
    stuck = Host(HOSTS[2], folder(tmp_path, HOSTS[2]), ports[HOSTS[2]])
    peers = {host: ("127.0.0.1", port, True) for host, port in ports.items() if host != stuck.me}
    orders = Orders(stuck.me, "127.0.0.1", stuck.port, (KEY,), peers, tuple(HOSTS))
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DAEMON, str(folder(tmp_path, stuck.me)), msgspec.json.encode(orders).decode()
    )
    lease = LeaseReader(folder(tmp_path, stuck.me) / "lease")
    try:
        for one in watchers:
            one.begin([*watchers, stuck], HOSTS)
        a, b = watchers
        await until(lambda: well(a, stuck) and well(b, stuck), 60, "everybody is well")
        lease.open()
        assert lease.generation() > 0
        daemon.send_signal(signal.SIGSTOP)
        await until(lambda: dead(a, stuck) and dead(b, stuck), 60, "the others agree")
        assert lease.generation() == 0
    finally:
        daemon.kill()
        await daemon.wait()
        for one in watchers:
            await one.end()


def folder(root: Path, host: str) -> Path:
    found = root / host[-1]
    found.mkdir(exist_ok=True)
    return found


def well(observer: Host, other: Host) -> bool:
    sight = observer.beats.sight(other.me)
    return sight is not None and sight.well_s > 0.2
