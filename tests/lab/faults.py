"""Steps that break things, and what is expected of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from tests.lab.scenario import Step
from tests.lab.stage import Stage
from tests.lab.timeline import Look

NEEDED = ("main", "primary", "active")  # a replica or a standby may have no further host to be on
BOUND = ("objects",)  # a folder: what it stores is on one host


class Faults(Stage):
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
        count, kind, role = step.words
        for _ in range(int(count)):
            names = [name for name in self.hosts if self._chatter is None or name != self._chatter.host.name]
            whom = f"holder of {role}" if role else self._chance.choice(names)
            self.do_strike(replace(step, words=(kind, whom, role)))
            assert self._victim is not None
            name = self._victim.name
            found = self._until_seen(partial(_is_fenced, name), 15.0, f"{name} fenced")
            self._note(f"{kind}: detected", found)
            self.do_elsewhere(replace(step, words=("60",)))
            self.do_back(step)
            self.do_member(replace(step, words=("60",)))
            self.do_settled(replace(step, words=("90",)))
            if self._look().engine == "postgresql":
                self._until(lambda: any(self._look().copies), 90.0, "a synchronous standby")
                self._note(f"{kind}: database redundant", time.monotonic() - self._struck_at)

    def do_blackouts(self, step: Step) -> None:
        """All at once; they are switched on again in an order of chance."""
        for _ in range(int(step.words[0])):
            for host in self.hosts.values():
                host.power_cut()
            names = self._chance.sample(list(self.hosts), len(self.hosts))
            self._say(f"blackout; switched on: {', '.join(names)}")
            began = time.monotonic()
            for name in names:
                self.hosts[name].power_on()
                time.sleep(self._chance.uniform(0.0, 2.0))
            self._until(self._settled, float(step.words[1]), "everything ready after the blackout")
            self._note("blackout: everything ready, from the first host on", time.monotonic() - began)

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

    def do_settled(self, step: Step) -> None:
        took = self._until(self._settled, float(step.words[0]), "every role ready")
        self._note("settled", took)


def _is_fenced(name: str, found: Look) -> bool:
    return found.hosts.get(name) == "fenced"
