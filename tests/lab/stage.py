"""What every step of a scenario needs: the hosts, who is a member, the one who chats, what is seen and measured."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.client import Chatter
from tests.lab.hosts import LabHost
from tests.lab.net import Net
from tests.lab.timeline import Look, Timeline, first, look, pause
from tests.lab.writable import Servers


class Stage:
    """A context manager; what was started in it has ended after it. ``times`` collects what was measured, by name."""

    def __init__(self, names: list[str], root: Path, seed: int) -> None:
        self._root = root
        self._chance = random.Random(seed)
        self.net = Net(names)
        self.hosts: dict[str, LabHost] = {}
        self.times: dict[str, list[float]] = {}
        self._members: set[str] = set()
        self._strangers: set[str] = set()  # hosts that are not meant to become members
        self._chatter: Chatter | None = None
        self._writers: list[Chatter] = []
        self._servers: Servers | None = None
        self._cut: list[tuple[str, float, float]] = []  # who was cut off, from when until when
        self._timeline: Timeline | None = None
        self._others: list[Timeline] = []
        self._victim: LabHost | None = None
        self._struck_at = 0.0
        self._before: Look | None = None
        self._kind = ""
        self._last = ""  # who joined last
        self._hogs: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.net.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        clients = [one for one in (self._chatter, *self._writers) if one is not None]
        for client in clients:
            client.ask_to_stop()
        for helper in (*clients, self._servers, self._timeline, *self._others):
            if helper is not None:
                helper.stop()
        self.net.__exit__(kind, err, trace)  # ends what runs inside
        for process in (*self._hogs, *(host.process for host in self.hosts.values() if host.process is not None)):
            process.wait(timeout=80)

    def _watchers(self) -> list[Timeline]:
        assert self._timeline is not None
        return [self._timeline, *self._others]

    def _alive(self) -> list[LabHost]:
        """The members, in the order of the scenario, but for the one that is struck."""
        inside = [host for host in self.hosts.values() if host.name in self._members]
        return [host for host in inside if host is not self._victim or not self._struck_at]

    def _poll(self) -> Look:
        for host in self._alive():
            found = look(host)
            if found is not None:
                return found
        raise AssertionError("no host answers")

    def _settled(self) -> bool:
        found = self._poll()
        every = set(found.hosts) == self._members and set(found.hosts.values()) == {"alive"}
        if len(self._members) >= 3 and not found.tolerates:
            return False
        return every and bool(found.roles) and all(state == "ready" for _, _, _, state, _ in found.roles)

    def _until(self, holds: Callable[[], bool], limit_s: float, what: str) -> float:
        began = time.monotonic()
        while not holds():
            assert time.monotonic() - began < limit_s, f"not within {limit_s:g} s: {what}; {self._poll()}"
            time.sleep(0.25)
        return time.monotonic() - began

    def _until_seen(self, holds: Callable[[Look], bool], limit_s: float, what: str) -> float:
        """Seconds from the fault until any host but the struck one saw it so."""

        def seen() -> list[float]:
            told = (one for one in self._watchers() if one.host is not self._victim)
            return [took for one in told if (took := first(one.looks, self._struck_at, holds)) is not None]

        self._until(lambda: bool(seen()), limit_s, what)
        return min(seen())

    def _longest_pause(self, since: float, without: set[str]) -> float:
        """For how long one of those who write got nothing acknowledged, seconds; through other hosts than these."""
        clients = [*self._writers, *([self._chatter] if self._chatter else [])]
        until = time.monotonic()
        pauses = {
            one.host.name: pause(one.acknowledgements(), since, until)
            for one in clients
            if one.host.name not in without
        }
        self._say("longest without a write: " + ", ".join(f"{name} {took:.1f} s" for name, took in pauses.items()))
        return max(pauses.values(), default=0.0)

    def _outage(self, since: float) -> float:
        """For how long nobody at all who writes got anything acknowledged, seconds."""
        acknowledged = (at for one in self._writers for at in one.acknowledgements())
        return pause(acknowledged, since, time.monotonic())

    def _slowest_turn(self, since: float, without: str) -> float:
        """How long one turn took at most that was on its way since then, through another host than this; seconds."""
        told = (one for client in self._writers if client.host.name != without for one in list(client.said))
        return max((one.took_s or 0.0 for one in told if (one.acknowledged or 0.0) > since), default=0.0)

    def _longest_silence(self, since: float, without: str) -> float:
        """For how long a host other than this one told nobody its status, seconds."""
        until = time.monotonic()
        others = (one for one in self._watchers() if one.host.name != without)
        return max(pause((look.at for look in list(one.looks)), since, until) for one in others)

    def _note(self, name: str, seconds: float) -> None:
        self.times.setdefault(name, []).append(seconds)
        self._say(f"{name}: {seconds:.1f} s")

    def _say(self, text: str) -> None:
        sys.stderr.write(f"  {text}\n")
