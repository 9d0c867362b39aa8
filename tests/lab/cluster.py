"""A cluster in the laboratory: a scenario performed, and what is checked of it."""

from __future__ import annotations

from pathlib import Path

from tests.lab.disks import Disks
from tests.lab.growing import Growing
from tests.lab.halves import Halves
from tests.lab.hosts import LabHost
from tests.lab.membership import Membership
from tests.lab.provocation import Provocation
from tests.lab.scenario import Step, parse, perform, with_rounds
from tests.lab.timeline import claims, doubles, look, rivals
from tests.lab.together import Together
from tests.lab.upgrade import Upgrade
from tests.lab.writing import Writing


class Lab(Growing, Membership, Writing, Provocation, Together, Disks, Halves, Upgrade):
    """One run of one scenario; a context manager."""

    def __init__(self, text: str, root: Path, seed: int, *, rounds: int | None = None) -> None:
        """``rounds``: so many, whatever the scenario says. Raises ValueError when it cannot be read, or has none."""
        self._steps = parse(text) if rounds is None else with_rounds(parse(text), rounds)
        super().__init__(self._steps[0].words[0].split(), root, seed)

    def run(self) -> None:
        doers = {name.removeprefix("do_"): getattr(self, name) for name in dir(self) if name.startswith("do_")}
        perform(self._steps, doers)

    def do_same(self, _: Step) -> None:
        def view(host: LabHost) -> object:
            found = look(host)
            return found and (found.leader, sorted(found.hosts.items()), sorted(found.roles))

        self._until(lambda: len({str(view(host)) for host in self._alive()}) == 1, 60.0, "one status everywhere")

    def do_places(self, step: Step) -> None:
        role, _, part = step.words[0].partition("/")

        def holds() -> bool:
            found = self._poll()
            return step.words[1] in [
                host for one, this, host, _, _ in found.roles if one == role and part in ("", this)
            ]

        self._until(holds, float(step.words[2] or 10), f"{step.words[0]} on {step.words[1]}")

    def do_explains(self, _: Step) -> None:
        host = self._alive()[0]
        names = {one["id"]: one["name"] for one in host.ctl("hosts", "list")["hosts"]}
        said = {(one["role"], one["part"], names[one["host"]]) for one in host.ctl("roles", "explain")["placements"]}
        assert said == {(role, part, name) for role, part, name, _, _ in self._poll().roles}

    def do_again(self, _: Step) -> None:
        planned = self._alive()[0].ctl("roles", "plan")
        assert not planned["added"], planned["added"]
        assert not planned["removed"], planned["removed"]

    def do_setting(self, step: Step) -> None:
        self._alive()[0].ctl("config", "set", *step.words)

    def do_database(self, step: Step) -> None:
        """It is in PostgreSQL, its primary is ready, and so many others have what it has."""
        copies, synchronous, limit = (int(word) for word in step.words)

        def holds() -> bool:
            found = self._poll()
            ready = [state for role, part, _, state, _ in found.roles if (role, part) == ("db", "primary")] == ["ready"]
            return (found.engine, len(found.copies), sum(found.copies), ready) == (
                "postgresql",
                copies,
                synchronous,
                True,
            )

        self._note("database redundant", self._until(holds, float(limit), "a redundant database"))

    def do_leaders(self, _: Step) -> None:
        looks = [look for one in self._watchers() for look in one.looks]
        found = rivals(looks)
        self._say(f"ready on two hosts, in looks of {len(looks)}: {doubles(looks) or 'nothing'}")
        assert not found, found

    def do_holders(self, _: Step) -> None:
        """What only one host may hold was never held by two in one epoch, as any host told at any time."""
        found = claims([look for one in self._watchers() for look in one.looks])
        assert not found, found
