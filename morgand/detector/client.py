"""The daemon's side of the detector: keeps its process running, tells it whom to watch, and hears what it sees."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from morgand.base.aio import wait_within
from morgand.base.clock import Clock
from morgand.detector.detector import DetectorView
from morgand.detector.lease import LeaseReader, now_s
from morgand.state.hosts import PeerHealth
from morgand.state.roles import RoleState

log = logging.getLogger("morgand.detector")

SIGN_EVERY_S = 0.5
PAUSE_S = 0.2
LINE_BYTES = 1024 * 1024
NOTHING = DetectorView(0.0, 0, False, {})  # noqa: FBT003 - what is seen while the process is not running
VIEW_S = 0.8  # how long a view holds: whoever it calls dead cannot have a lease again by then

Probe = Callable[[], Awaitable[bool]]
Report = Callable[[RoleState, str | None], None]
Keep = Callable[[str, tuple[str, ...], Probe, Report], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Orders:
    """What the process is to do. ``keys`` (hexadecimal): the first is signed with, all are accepted.

    ``peers``: by host, its address, port, and whether its link is wired; ``voters`` may hold this host too.
    """

    me: str
    address: str
    port: int
    keys: tuple[str, ...]
    peers: dict[str, tuple[str, int, bool]] = field(default_factory=dict)
    voters: tuple[str, ...] = ()


class Heartbeats:
    """``run`` until cancelled. While the process is not running nothing is seen and there is no lease."""

    def __init__(self, folder: Path, keep: Keep, clock: Clock, now: Callable[[], float] = now_s) -> None:
        """``now``: the detector's clock."""
        self._now = now
        self._socket, self._lease_file = folder / "detector.sock", folder / "lease"
        self._keep, self._clock = keep, clock
        self._lease = LeaseReader(self._lease_file)
        self._orders: Orders | None = None
        self._ordered = asyncio.Event()
        self._view = NOTHING
        self._changed = asyncio.Event()

    @property
    def lease(self) -> int:
        """The generation of the lease this host holds right now; 0 when it holds none."""
        return self._lease.generation()

    @property
    def leased(self) -> bool:
        return self.lease > 0

    def sight(self, host: str) -> PeerHealth | None:
        """What is seen of a host; None when nothing is known, or this host has stood still."""
        return self._view.sights.get(host) if self._now() - self._view.at <= VIEW_S else None

    def next(self) -> asyncio.Event:
        """Set when something else is seen than at this call."""
        return self._changed

    def order(self, orders: Orders) -> None:
        """From now on; the same orders again cost nothing."""
        if orders != self._orders:
            self._orders = orders
            self._ordered.set()

    async def run(self) -> None:
        await self._ordered.wait()
        argv = (
            sys.executable, "-m", "morgand.process.die_with_parent", sys.executable, "-m", "morgand.detector.process",
            str(self._socket), str(self._lease_file),
        )  # fmt: skip
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep("detector", argv, self._is_up, _say))
            group.create_task(self._follow())

    async def _is_up(self) -> bool:
        return self._view is not NOTHING

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(OSError, msgspec.MsgspecError, ValueError):  # of a line that is too long
                await self._talk()
            self._see(NOTHING)
            await self._clock.sleep(PAUSE_S)

    async def _talk(self) -> None:
        """One connection to its end."""
        reader, writer = await asyncio.open_unix_connection(self._socket, limit=LINE_BYTES)
        telling = asyncio.create_task(self._notify(writer), name="detector-orders")
        try:
            self._lease.open()
            while line := await reader.readline():
                self._see(msgspec.json.decode(line, type=DetectorView))
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            writer.close()

    async def _notify(self, writer: asyncio.StreamWriter) -> None:
        told: Orders | None = None
        while True:
            self._ordered.clear()
            if told != self._orders:
                told = self._orders
                writer.write(msgspec.json.encode(told))
            writer.write(b"\n")
            await writer.drain()
            await wait_within(self._ordered, SIGN_EVERY_S)

    def _see(self, view: DetectorView) -> None:
        self._view = view
        self._changed.set()
        self._changed = asyncio.Event()


def _say(state: RoleState, detail: str | None) -> None:
    if detail:
        log.warning("program", extra={"program": "detector", "state": state.value, "reason": detail})
