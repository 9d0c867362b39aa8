"""Rounds in which nothing is wrong with any host: bad links, and more to compute than there are cores."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.lab.faults import Faults
from tests.lab.scenario import Step
from tests.lab.timeline import Look

LASTS_S = 5.0
LOSS = 0.2
DELAY_MS = JITTER_MS = 50.0
CALM_S = 120.0  # until everything is well again after a false alarm


class Provocation(Faults):
    def do_provocations(self, step: Step) -> None:
        count, fenced, moved = int(step.words[0]), 0, 0
        for number in range(1, count + 1):
            chosen = self._chance.sample(list(self._ways()), self._chance.randint(1, 2))
            before, began = self._poll(), time.monotonic()
            told = ", ".join(self._ways()[name]() for name in chosen)
            time.sleep(LASTS_S)
            self._calm()
            looks = [one for timeline in self._watchers() for one in timeline.looks if one.at >= began]
            given_up = sorted({host for one in looks for host, state in one.hosts.items() if state == "fenced"})
            pause = self._longest_pause(began, set(given_up))
            if given_up:
                fenced += 1
                self._say(f"round {number}: {told}: {', '.join(given_up)} given up")
                self._note("false fencing: write outage", pause)
                self._until(self._settled, CALM_S, "everything ready after a false alarm")
            elif _places(before) != _places(self._poll()) or before.leader != self._poll().leader:
                moved += 1
                self._say(f"round {number}: {told}: {_places(before) ^ _places(self._poll())}")
            else:
                self._say(f"round {number}: {told}: nothing")
            self.times.setdefault("provocation: longest pause of writes", []).append(pause)
            self.times.setdefault("provocation: nobody writes", []).append(self._outage(began))
        self._say(
            f"{count} provocations: {fenced} false fencings ({fenced / count:.1%}), {moved} times something moved"
        )

    def _ways(self) -> dict[str, Callable[[], str]]:
        return {"loss": self._lossy, "jitter": self._jittery, "busy": self._busy, "link": self._link}

    def _lossy(self) -> str:
        name = self._chance.choice(list(self.hosts))
        self.net.lose(name, LOSS)
        return f"{name} loses {LOSS:.0%}"

    def _jittery(self) -> str:
        name = self._chance.choice(list(self.hosts))
        self.net.delay(name, DELAY_MS, JITTER_MS)
        return f"{name} has {JITTER_MS:.0f} ms of jitter"

    def _busy(self) -> str:
        self.make_busy()
        return "every host is busy"

    def _link(self) -> str:
        one, other = self._chance.sample(list(self.hosts), 2)
        self.net.deafen(one, other)
        self.net.deafen(other, one)
        return f"no link between {one} and {other}"

    def _calm(self) -> None:
        self.net.heal()
        self.make_idle()


def _places(found: Look) -> set[tuple[str, str, str]]:
    return {(role, part, host) for role, part, host, _, _ in found.roles}
