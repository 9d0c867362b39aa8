"""What happened when: the cluster as one host tells it, looked at several times a second."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from morgand.roles.catalog import BY_NAME
from tests.lab.hosts import LabHost

LOOK_EVERY_S = 0.5
HELD_ONCE = ("main", "primary")


@dataclass(frozen=True)
class Look:
    at: float
    leader: str | None
    hosts: dict[str, str]  # name -> state
    roles: list[tuple[str, str, str, str, int]]  # role, part, host name, state, epoch
    tolerates: int = 0  # voters that may still be lost
    epoch: int = 0  # of the leader
    engine: str | None = None  # of the database
    copies: tuple[bool, ...] = ()  # of the database, that follow its primary: whether synchronous
    voters: int = 0
    warnings: tuple[str, ...] = ()

    def holders(self, role: str, *, ready: bool = True) -> list[str]:
        return [host for one, _, host, state, _ in self.roles if one == role and (state == "ready" or not ready)]


def look(host: LabHost) -> Look | None:
    """The cluster as ``host`` sees it now; None when it does not answer."""
    try:
        status, body = host.request("GET", "/v1/status", timeout_s=3)
    except (OSError, http.client.HTTPException):
        return None
    # a status tells of the moment in which it is given, not in which it was asked for
    return read(time.monotonic(), body) if status == 200 else None


def read(at: float, body: dict[str, Any]) -> Look:
    names = {one["id"]: one["name"] for one in body["hosts"]}
    return Look(
        at, names.get(body["cluster"]["leader"]), {one["name"]: one["state"] for one in body["hosts"]},
        [(one["role"], one["part"], names.get(one["host"], "?"), one["state"], one["epoch"]) for one in body["roles"]],
        body["cluster"]["quorum"]["tolerates"], body["cluster"]["epoch"],
        body["database"]["engine"], tuple(one["sync"] for one in body["database"]["standbys"]),
        len(body["cluster"]["quorum"]["voters"]), tuple(body["warnings"]),
    )  # fmt: skip


@dataclass
class Timeline:
    """Looks through one host, in a thread, until stopped."""

    host: LabHost
    every_s: float = LOOK_EVERY_S
    looks: list[Look] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="timeline")
        self._thread.start()

    def stop(self) -> list[Look]:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        return self.looks

    def _run(self) -> None:
        while not self._stop.is_set():
            found = look(self.host)
            if found is not None:
                self.looks.append(found)
            time.sleep(self.every_s)


def first(looks: Iterable[Look], since: float, holds: Callable[[Look], bool]) -> float | None:
    """Seconds from ``since`` to the first look for which ``holds``, or None."""
    return next((one.at - since for one in looks if one.at >= since and holds(one)), None)


def rivals(looks: Iterable[Look]) -> list[str]:
    """Epochs with more than one leader, as any of the looks tells."""
    leaders: dict[int, set[str]] = {}
    for one in looks:
        if one.leader is not None:
            leaders.setdefault(one.epoch, set()).add(one.leader)
    return [f"epoch {epoch} has leaders {', '.join(sorted(who))}" for epoch, who in leaders.items() if len(who) > 1]


def claims(looks: Iterable[Look]) -> list[str]:
    """Exclusive roles that two hosts held in one epoch, as any of the looks tells."""
    held: dict[tuple[str, str, int], set[str]] = {}
    for one in looks:
        for role, part, host, state, epoch in one.roles:
            if BY_NAME[role].exclusive and part == BY_NAME[role].parts[0].name and state == "ready":
                held.setdefault((role, part, epoch), set()).add(host)
    return [f"{role}/{part} in epoch {epoch}: {', '.join(sorted(who))}"
            for (role, part, epoch), who in held.items() if len(who) > 1]  # fmt: skip


def doubles(looks: Iterable[Look]) -> dict[str, int]:
    """In how many looks something that is held once was ready on two hosts. What a host says of itself arrives late, so
    this is a reason to look closer, no proof."""
    found: Counter[str] = Counter()
    for one in looks:
        ready = Counter(
            f"{role}/{part}" for role, part, _, state, _ in one.roles if part in HELD_ONCE and state == "ready"
        )
        found.update(slot for slot, count in ready.items() if count > 1)
    return dict(found)


def risks(one: Look) -> list[str]:
    """What makes the loss of one host cost too much, where there are several."""
    there = {
        f"{one.voters} voters, of which none may be lost": not one.tolerates,
        f"the database is in {one.engine}": one.engine != "postgresql",
        "no synchronous copy of the database": not any(one.copies),
    }
    return [risk for risk, holds in there.items() if holds] if len(one.hosts) > 1 else []


def too_sure(looks: Iterable[Look]) -> list[str]:
    """What was so in looks that warned of nothing, or only of models that there are none of."""
    found: Counter[str] = Counter()
    for one in looks:
        if all("is not placed" in warning for warning in one.warnings):
            found.update(risks(one))
    return [f"in {count} looks: {risk}" for risk, count in found.items()]


def longest_gap(moments: Iterable[float]) -> float:
    """The longest time between two of the moments, seconds; 0 for fewer than two."""
    ordered = sorted(moments)
    return max((after - before for before, after in itertools.pairwise(ordered)), default=0.0)


def pause(moments: Iterable[float], since: float, until: float) -> float:
    """The longest time without one of the moments between ``since`` and ``until``, seconds. One that began before, or
    lasts until the end, counts from its beginning."""
    ordered = sorted(one for one in moments if one <= until)
    pairs = itertools.pairwise([*ordered, until]) if ordered else [(since, until)]
    return max((after - before for before, after in pairs if after > since), default=0.0)


def table(rows: dict[str, list[float]]) -> str:
    """Times per row as minimum, median and maximum."""
    width = max(map(len, rows), default=0)
    lines = [f"{'':{width}} {'n':>3} {'min':>7} {'median':>7} {'max':>7}"]
    for name, times in rows.items():
        ordered = sorted(times)
        lines.append(
            f"{name:{width}} {len(ordered):3} {ordered[0]:7.2f} {ordered[len(ordered) // 2]:7.2f} {ordered[-1]:7.2f}"
        )
    return "\n".join(lines)
