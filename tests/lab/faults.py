"""Steps that break things, and what is expected of it."""

from __future__ import annotations

import contextlib
import http.client
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
SILENT_S = 2.5  # others are agreed that a host is dead after one second; a shorter silence counts as flapping
AWAY_S = 3.0  # whoever is back sooner was no dead host but a flapping one, and is borne with for longer the next time
CUT = ("cut off", "deafen", "mute")
WHOLE = "every copy of the database synchronous, every standby ready"
BOUND = ("objects",)  # a folder: what it stores is on one host


class Faults(Stage):
    def do_strike(self, step: Step) -> None:
        self._kind, whom, role = step.words
        self._before = self._poll()
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
            "false alarm": self._false_alarm,
        }
        ways[self._kind]()

    def _false_alarm(self) -> None:
        """It is as well as ever, but for a moment nobody gets its heartbeats."""
        assert self._victim is not None
        self.net.silence(self._victim.name)
        time.sleep(SILENT_S)
        self.net.heal()

    def do_rounds(self, step: Step) -> None:
        """A fault of one kind to a host chosen at random, its roles elsewhere, its return; again and again."""
        count, kind, role = step.words
        for number in range(1, int(count) + 1):
            names = [name for name in self.hosts if self._chatter is None or name != self._chatter.host.name]
            whom = f"holder of {role}" if role else self._chance.choice(names)
            self._say(f"round {number} of {count}, {time.strftime('%H:%M:%S')}")
            self.round_of(replace(step, words=(kind, whom, role)))

    def round_of(self, step: Step) -> None:
        """One fault (its kind, whom it strikes, of which role), until everything is as it was.

        One at a time: in the seconds after a handover the new primary alone has what it acknowledges, and without it
        nobody takes over.
        """
        kind, _, _ = step.words
        self._until(self._redundant, 120.0, WHOLE)
        self.do_strike(step)
        assert self._victim is not None
        name, struck_at = self._victim.name, self._struck_at
        found = self._until_fenced(name)
        self._note(f"{kind}: detection", found)
        if kind != "false alarm":  # it may have its roles again before others are ready
            self.do_elsewhere(replace(step, words=("60",)))
        away = time.monotonic()
        self._until(lambda: self._writes_since(away, name), 120.0, "writes through every other host")
        time.sleep(max(0.0, struck_at + AWAY_S - time.monotonic()))
        self.do_back(step)
        if kind in CUT:
            self._cut.append((name, struck_at, self._struck_at))
        self.do_member(replace(step, words=("60",)))
        self._until(self._redundant, 120.0, WHOLE)
        self._note(f"{kind}: redundant again", time.monotonic() - self._struck_at)
        since = time.monotonic()
        self._until(lambda: self._writes_since(since), 120.0, "writes through every host")
        self._note(f"{kind}: status outage", self._longest_silence(struck_at, name))
        if self._writers or self._chatter:
            what = f"{kind} of the primary" if self._wrote(name) else kind
            self._note(f"{what}: write outage", self._longest_pause(struck_at, {name}))
            self._note(f"{what}: slowest turn", self._slowest_turn(struck_at, name))

    def _wrote(self, name: str) -> bool:
        """Whether this host had the database's primary when it was struck."""
        assert self._before is not None
        return ("db", "primary", name) in {(role, part, host) for role, part, host, _, _ in self._before.roles}

    def _writes_since(self, since: float, name: str = "") -> bool:
        """Whether everybody who writes through another host than ``name`` had something acknowledged."""
        others = [one for one in self._writers if one.host.name != name]
        return all(one.said and (one.said[-1].acknowledged or 0.0) > since for one in others)

    def _redundant(self) -> bool:
        """Whether the next fault may come: whatever is needed is there, and what takes over is warm."""
        found = self._poll()
        if set(found.hosts) != self._members or set(found.hosts.values()) != {"alive"} or not found.tolerates:
            return False
        if found.engine == "postgresql" and not (found.copies and all(found.copies)):
            return False
        warm = [state for role, part, _, state, _ in found.roles if role == "db" or part in (*NEEDED, "standby")]
        return set(warm) == {"ready"}

    def do_blackouts(self, step: Step) -> None:
        """All at once; they are switched on again in an order of chance."""
        for number in range(1, int(step.words[0]) + 1):
            self._say(f"blackout {number}, {time.strftime('%H:%M:%S')}")
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
            if self._writers:
                moments = [at for one in self._writers for at in one.acknowledgements() if at > began]
                self._note("blackout: first write, from the first host on", min(moments) - began)

    def do_busy(self, _: Step) -> None:
        self.make_busy()

    def make_idle(self) -> None:
        for process in self._hogs:
            process.kill()
            process.wait()
        self._hogs.clear()

    def make_busy(self) -> None:
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
        self._before = self._poll()
        time.sleep(float(step.words[0]))

    def do_nobody(self, _: Step) -> None:
        """Since the last wait began nobody was given up and nothing moved; whom the leader cannot hear is suspect."""
        assert self._before is not None
        found = self._poll()
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
            self._until(self._settled, 120.0, f"everything ready after the restart of {host.name}")

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

    def _until_fenced(self, name: str) -> float:
        """Seconds from the fault until another host said so. Unlike status the list of hosts waits for no database."""
        asked = next(host for host in self._alive() if host.name != name)
        while time.monotonic() - self._struck_at < 15.0:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, body = asked.request("GET", "/v1/hosts", timeout_s=3)
                if status == 200 and {one["name"]: one["state"] for one in body["hosts"]}[name] == "fenced":
                    return time.monotonic() - self._struck_at
            time.sleep(0.02)
        raise AssertionError(f"{name} is not fenced within 15 s; {self._poll()}")

    def _is_elsewhere(self, role: str, part: str, found: Look) -> bool:
        assert self._victim is not None
        holders = {host: state for one, this, host, state, _ in found.roles if (one, this) == (role, part)}
        return self._victim.name not in holders and "ready" in holders.values()

    def do_settled(self, step: Step) -> None:
        took = self._until(self._settled, float(step.words[0]), "every role ready")
        self._note("settled", took)
