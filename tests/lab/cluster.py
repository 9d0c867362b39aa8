"""A cluster in the laboratory, and how each step of a scenario is done to it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.client import Chatter
from tests.lab.hosts import LabHost
from tests.lab.net import Net
from tests.lab.scenario import Step, parse, perform
from tests.lab.timeline import Look, Timeline, claims, doubles, first, longest_gap, look, rivals


class Lab:
    """One run of one scenario; a context manager. ``times`` collects what was measured, by name."""

    def __init__(self, text: str, root: Path, seed: int) -> None:
        self._steps = parse(text)
        self._root = root
        self._chance = random.Random(seed)
        names = self._steps[0].words[0].split()
        self.net = Net(names)
        self.hosts: dict[str, LabHost] = {}
        self.times: dict[str, list[float]] = {}
        self._chatter: Chatter | None = None
        self._timeline: Timeline | None = None
        self._others: list[Timeline] = []
        self._outside: set[str] = set()  # hosts that are not meant to be members
        self._victim: LabHost | None = None
        self._struck_at = 0.0
        self._before: Look | None = None
        self._kind = ""
        self._hogs: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.net.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        for helper in (self._chatter, self._timeline, *self._others):
            if helper is not None:
                helper.stop()
        self.net.__exit__(kind, err, trace)  # ends what runs inside
        for process in (*self._hogs, *(host.process for host in self.hosts.values() if host.process is not None)):
            process.wait(timeout=30)

    def run(self) -> None:
        doers = {name.removeprefix("do_"): getattr(self, name) for name in dir(self) if name.startswith("do_")}
        perform(self._steps, doers)

    # --- steps -----------------------------------------------------------------------------------

    def do_hosts(self, step: Step) -> None:
        for name in step.words[0].split():
            self.hosts[name] = LabHost(self.net, name, self._root)

    def do_multicast(self, _: Step) -> None:
        for name in self.hosts:
            self.net.without_multicast(name)

    def do_interface(self, step: Step) -> None:
        device, address, name = step.words
        self.net.add_interface(name, device, address)

    def do_clock(self, step: Step) -> None:
        name, seconds = step.words
        self.hosts[name] = LabHost(self.net, name, self._root, clock_ahead_s=int(seconds))
        self._outside.add(name)

    def do_join(self, step: Step) -> None:
        founder, *others = self._alive()
        founder.start(ready=("db",))
        for host in others:
            host.join(founder, by_code=bool(step.words[0]))
            host.start(ready=())

    def do_refused(self, step: Step) -> None:
        name, words = step.words
        said = ""
        try:
            self.hosts[name].join(self._alive()[0])
        except AssertionError as err:
            said = str(err)
        assert words in said, said or f"{name} was let in"

    def do_addresses(self, _: Step) -> None:
        known = {one["name"]: one["address"] for one in self._alive()[0].ctl("hosts", "list")["hosts"]}
        assert known == {host.name: host.address for host in self._alive()}, known

    def do_settled(self, step: Step) -> None:
        took = self._until(self._settled, float(step.words[0]), "every role ready")
        self._note("settled", took)

    def do_same(self, _: Step) -> None:
        def view(host: LabHost) -> object:
            found = look(host)
            return found and (found.leader, sorted(found.hosts.items()), sorted(found.roles))

        self._until(lambda: len({str(view(host)) for host in self._alive()}) == 1, 10.0, "one status everywhere")

    def do_places(self, step: Step) -> None:
        found = self._look()
        role, _, part = step.words[0].partition("/")
        placed = [host for one, this, host, _, _ in found.roles if one == role and part in ("", this)]
        assert step.words[1] in placed, f"{step.words[0]} is on {placed}"

    def do_explains(self, _: Step) -> None:
        host = self._alive()[0]
        names = {one["id"]: one["name"] for one in host.ctl("hosts", "list")["hosts"]}
        said = {(one["role"], one["part"], names[one["host"]]) for one in host.ctl("roles", "explain")["placements"]}
        assert said == {(role, part, name) for role, part, name, _, _ in self._look().roles}

    def do_again(self, _: Step) -> None:
        planned = self._alive()[0].ctl("roles", "plan")
        assert not planned["added"], planned["added"]
        assert not planned["removed"], planned["removed"]

    def do_chat(self, step: Step) -> None:
        self._chatter = Chatter(self.hosts[step.words[0]], answers=bool(step.words[1]))
        self._chatter.start()
        self._timeline = Timeline(self.hosts[step.words[0]])
        self._timeline.start()
        self._others = [Timeline(host, every_s=1.0) for host in self._alive() if host is not self.hosts[step.words[0]]]
        for one in self._others:
            one.start()
        time.sleep(2.0)

    def do_strike(self, step: Step) -> None:
        self._kind, whom, role = step.words
        self._before = self._look()
        self._victim = self.hosts[self._chosen(whom, role)]
        self._struck_at = time.monotonic()
        self._say(f"{self._kind} {self._victim.name}")
        name = self._victim.name
        ways: dict[str, Callable[[], None]] = {
            "power-cut": self._victim.power_cut,
            "freeze": self._victim.freeze,
            "cut off": lambda: self.net.cut_off(name),
            "deafen": lambda: self.net.cut_off(name, sends=True),
            "mute": lambda: self.net.cut_off(name, hears=True),
        }
        ways[self._kind]()

    def do_rounds(self, step: Step) -> None:
        """A fault of one kind to a host chosen at random, its roles elsewhere, its return; again and again."""
        count, kind = step.words
        for _ in range(int(count)):
            names = [name for name in self.hosts if self._chatter is None or name != self._chatter.host.name]
            name = self._chance.choice(names)
            self.do_strike(replace(step, words=(kind, name, "")))
            found = self._until_seen(partial(_is_fenced, name), 15.0, f"{name} fenced")
            self._note(f"{kind}: detected", found)
            self.do_elsewhere(replace(step, words=("60",)))
            self.do_back(step)
            self.do_member(replace(step, words=("60",)))
            self.do_settled(replace(step, words=("90",)))

    def do_busy(self, _: Step) -> None:
        """More to compute on every host than its cores can."""
        for host in self.hosts.values():
            argv = [*host.prefix, sys.executable, "-c", "while True: pass"]
            self._hogs += [subprocess.Popen(argv) for _ in range(os.cpu_count() or 1)]

    def do_loss(self, step: Step) -> None:
        self.net.lose(step.words[0], int(step.words[1]) / 100)

    def do_late(self, step: Step) -> None:
        self.net.delay(step.words[0], float(step.words[1]), float(step.words[2]))

    def do_deaf(self, step: Step) -> None:
        self.net.deafen(step.words[1], step.words[0])

    def do_heal(self, _: Step) -> None:
        self.net.heal()

    def do_wait(self, step: Step) -> None:
        self._before = self._look()
        time.sleep(float(step.words[0]))

    def do_nobody(self, _: Step) -> None:
        """Since the last wait began nobody was given up and nothing moved; whom the leader cannot hear is suspect."""
        assert self._before is not None
        found = self._look()
        assert found.leader == self._before.leader, f"the leader is {found.leader}"
        assert set(found.hosts.values()) <= {"alive", "suspect"}, found.hosts
        places = [{(role, part, host) for role, part, host, _, _ in look.roles} for look in (self._before, found)]
        assert places[0] == places[1], places[0] ^ places[1]

    def do_leaders(self, _: Step) -> None:
        looks = [look for one in self._watchers() for look in one.looks]
        found = rivals(looks)
        self._say(f"ready on two hosts, in looks of {len(looks)}: {doubles(looks) or 'nothing'}")
        assert not found, found

    def do_holders(self, _: Step) -> None:
        """What only one host may hold was never held by two in one epoch, as any host told at any time."""
        found = claims([look for one in self._watchers() for look in one.looks])
        assert not found, found

    def do_elsewhere(self, step: Step) -> None:
        """Every role that was ready on the struck host, and that can be elsewhere, is ready on another."""
        assert self._before is not None
        assert self._victim is not None
        assert self._timeline is not None
        name = self._victim.name
        for role, part in sorted({(one, part) for one, part, host, _, _ in self._before.roles if host == name}):
            if role in BOUND or part not in NEEDED:
                continue
            took = self._until_seen(partial(self._is_elsewhere, role, part), float(step.words[0]), f"{role}/{part}")
            self._note(f"{self._kind}: {role}/{part} elsewhere", took)
        if self._before.leader == name:
            took = self._until_seen(lambda found: found.leader not in (name, None), float(step.words[0]), "a leader")
            self._note(f"{self._kind}: new leader", took)

    def do_back(self, _: Step) -> None:
        assert self._victim is not None
        self._struck_at = time.monotonic()
        {"power-cut": self._victim.power_on, "freeze": self._victim.thaw}.get(self._kind, self.net.heal)()

    def do_member(self, step: Step) -> None:
        assert self._victim is not None
        name = self._victim.name
        took = self._until_seen(lambda found: found.hosts.get(name) == "alive", float(step.words[0]), f"{name} alive")
        self._note(f"{self._kind}: member again", took)

    def do_rolling(self, _: Step) -> None:
        for host in self.hosts.values():
            self._say(f"restart {host.name}")
            host.restart()
            self._until(self._settled, 60.0, f"everything ready after the restart of {host.name}")

    def do_turns(self, step: Step) -> None:
        assert self._chatter is not None
        said = self._chatter.stop()
        failed = [one for one in said if one.took_s is None]
        slowest = max((one.took_s for one in said if one.took_s is not None), default=0.0)
        self._note("slowest turn", slowest)
        gap = longest_gap(one.began + one.took_s for one in said if one.took_s is not None)
        self._note("longest time without a turn", gap)
        self._say(f"{len(said)} turns")
        assert not failed, f"{len(failed)} turns were never acknowledged"
        assert slowest <= float(step.words[0]), f"a turn took {slowest:.1f} s"

    def do_lost(self, _: Step) -> None:
        assert self._chatter is not None
        found = self._chatter.compare()
        self._say(str(found))
        assert found["acknowledged"] > 0, found
        assert found["lost"] == found["doubled"] == found["disordered"] == 0, found

    # --- helpers ---------------------------------------------------------------------------------

    def _watchers(self) -> list[Timeline]:
        assert self._timeline is not None
        return [self._timeline, *self._others]

    def _alive(self) -> list[LabHost]:
        inside = [host for host in self.hosts.values() if host.name not in self._outside]
        return [host for host in inside if host is not self._victim or not self._struck_at]

    def _look(self) -> Look:
        for host in self._alive():
            found = look(host)
            if found is not None:
                return found
        raise AssertionError("no host answers")

    def _settled(self) -> bool:
        found = self._look()
        every = set(found.hosts) == set(self.hosts) and set(found.hosts.values()) == {"alive"}
        if len(self.hosts) >= 3 and not found.tolerates:
            return False
        return every and bool(found.roles) and all(state == "ready" for _, _, _, state, _ in found.roles)

    def _chosen(self, whom: str, role: str) -> str:
        """The host that is meant. The one that is chatted through stays out of it."""
        assert self._before is not None
        if whom == "leader":
            return str(self._before.leader)
        if not role:
            return whom
        name, _, part = role.partition("/")
        chat = self._chatter.host.name if self._chatter else ""
        holders = [host for one, this, host, _, _ in self._before.roles if one == name and part in ("", this)]
        return self._chance.choice([host for host in holders if host != chat] or holders)

    def _is_elsewhere(self, role: str, part: str, found: Look) -> bool:
        assert self._victim is not None
        holders = {host: state for one, this, host, state, _ in found.roles if (one, this) == (role, part)}
        return self._victim.name not in holders and "ready" in holders.values()

    def _until(self, holds: Callable[[], bool], limit_s: float, what: str) -> float:
        began = time.monotonic()
        while not holds():
            assert time.monotonic() - began < limit_s, f"not within {limit_s:g} s: {what}; {self._look()}"
            time.sleep(0.25)
        return time.monotonic() - began

    def _until_seen(self, holds: Callable[[Look], bool], limit_s: float, what: str) -> float:
        assert self._timeline is not None
        timeline, since = self._timeline, self._struck_at
        self._until(lambda: first(timeline.looks, since, holds) is not None, limit_s, what)
        took = first(timeline.looks, since, holds)
        assert took is not None
        return took

    def _note(self, name: str, seconds: float) -> None:
        self.times.setdefault(name, []).append(seconds)
        self._say(f"{name}: {seconds:.1f} s")

    def _say(self, text: str) -> None:
        sys.stderr.write(f"  {text}\n")


def _is_fenced(name: str, found: Look) -> bool:
    return found.hosts.get(name) == "fenced"


NEEDED = ("main", "primary", "active")  # a replica or a standby may have no further host to be on
BOUND = ("db", "objects")  # SQLite and a folder: what they store is on one host
