"""Steps of a story in which a cluster grows, and is struck as soon as it says that it is ready."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial

from tests.lab.client import Chatter
from tests.lab.faults import Faults
from tests.lab.membership import MOVE_S, Membership
from tests.lab.scenario import Step
from tests.lab.timeline import Timeline, risks, too_sure
from tests.lab.writing import PATIENCE_S

AFTER_S = 5.0
BETWEEN_S = 10.0  # from one join to the next, at most


class Growing(Membership, Faults):
    def do_bare(self, _: Step) -> None:
        """The database, etcd and what stores have the processors to themselves."""
        for name in self.hosts:
            file = self._root / f"{name}.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), "models": []}))

    def do_turns_in(self, _: Step) -> None:
        """In an order of chance, after pauses of chance; each is written through and watched from then on."""
        names = self._chance.sample(list(self.hosts), len(self.hosts))
        self._say(f"in this order: {', '.join(names)}")
        for name in names:
            self._enter(name)
            host = self.hosts[name]
            self._until(partial(self._is_alive, name), MOVE_S, f"{name} alive")
            writer, watcher = Chatter(host, answers=False, give_up_s=PATIENCE_S), Timeline(host)
            self._writers.append(writer)
            self._others.append(watcher)
            writer.start()
            watcher.start()
            if name != names[-1]:
                time.sleep(self._chance.uniform(0.0, BETWEEN_S))
        self._timeline = self._others.pop(0)
        self._last = names[-1]

    def _is_alive(self, name: str) -> bool:
        return self._poll().hosts.get(name) == "alive"

    def do_last_ready(self, step: Step) -> None:
        """One that is needed for nothing has none: then it is the moment when all is settled."""

        def ready() -> bool:
            states = {state for _, _, host, state, _ in self._poll().roles if host == self._last}
            return states == {"ready"} if states else self._settled() and not risks(self._poll())

        took = self._until(ready, float(step.words[0]), f"the roles of {self._last} ready")
        self._note("roles of the last host ready", took)

    def do_anybody(self, step: Step) -> None:
        time.sleep(self._chance.uniform(0.0, float(step.words[1])))
        victim = self._chance.choice(list(self.hosts))
        found = self._poll()
        held = ", ".join(f"{role}/{part}" for role, part, host, _, _ in found.roles if host == victim)
        self._say(f"{victim} has {held}; leader {found.leader}, database in {found.engine}, copies {found.copies}")
        self._say(f"{found.voters} voters; warnings: {'; '.join(found.warnings) or 'none'}")
        self.do_strike(replace(step, words=(step.words[0], victim, "")))

    def do_others_write(self, step: Step) -> None:
        """Once it is given up; and for how long they could not, which may be from later on."""
        assert self._victim is not None
        name, struck_at = self._victim.name, self._struck_at
        self._note(f"{self._kind}: detection", self._until_fenced(name))
        time.sleep(AFTER_S)
        since = time.monotonic()
        self._until(lambda: self._writes_since(since, name), float(step.words[0]), "writes through every other host")
        self._note(f"{self._kind}: write outage", self._longest_pause(struck_at, {name}))

    def do_too_sure(self, _: Step) -> None:
        found = too_sure([look for one in self._watchers() for look in one.looks])
        assert not found, found
