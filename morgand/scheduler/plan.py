"""Who should run what: a function of one snapshot, and of nothing else.

Parts are placed in order: what is required first, then what is good to have, each in the order of the roles.
For every part the hosts are tried from the best standing down; whoever runs it stays unless another is better by
the margin (``rank.MARGIN``); a host that holds another part of the role (a warm standby) counts as running it.
A part that comes earlier takes room from one that comes later, never the other way round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from morgand.scheduler.feasible import Demand, Fit, Room, barred, fit, unknown_model
from morgand.scheduler.rank import Standing, beats, merit, standing
from morgand.scheduler.reconcile import difference
from morgand.state import (
    Assignment,
    Distance,
    Host,
    HostState,
    Model,
    Part,
    Plan,
    Refusal,
    RolePreference,
    RoleSpec,
    Snapshot,
)

NAMED_HOSTS = 3  # a refusal names this many hosts and counts the rest


def plan(snapshot: Snapshot) -> Plan:
    """The assignments that should hold. Same snapshot, same plan; planning again after applying changes nothing."""
    planning = Planning(snapshot)
    planning.run()
    change = difference(snapshot.assignments, planning.placed)
    return Plan(
        id=f"plan-{snapshot.revision}",
        revision=snapshot.revision,
        assignments=change.assignments,
        added=change.added,
        removed=change.removed,
        refusals=tuple(planning.refusals),
    )


def passed_over(snapshot: Snapshot) -> tuple[Refusal, ...]:
    """For every part, every host that did not get it, and why."""
    planning = Planning(snapshot, explain=True)
    planning.run()
    return tuple(planning.passed)


@dataclass(frozen=True, slots=True)
class _Step:
    """Place ``count`` of a part."""

    spec: RoleSpec
    part: Part
    count: int


@dataclass(frozen=True, slots=True)
class _Choice:
    host: Host
    fit: Fit
    stays: bool  # runs it now and a host of better standing is not better enough


class Planning:
    """One run of the scheduler: mutable inside, thrown away afterwards."""

    def __init__(self, snapshot: Snapshot, *, explain: bool = False) -> None:
        self._snapshot = snapshot
        self._explain = explain
        self._hosts = sorted(snapshot.hosts, key=lambda host: (host.name, host.id))
        self._room = {host.id: Room.of(host) for host in self._hosts}
        self._held: dict[str, dict[str, str]] = {host.id: {} for host in self._hosts}  # host -> role -> part
        self._current: dict[str, dict[str, Assignment]] = {}  # role -> host -> assignment
        for one in sorted(snapshot.assignments, key=lambda one: one.slot):
            self._current.setdefault(one.role, {})[one.host] = one
        self._ordered: dict[str, list[tuple[Standing, Host]]] = {}
        self._models = _by_role(snapshot.models)
        self.placed: list[Assignment] = []
        self.refusals: list[Refusal] = []
        self.passed: list[Refusal] = []

    def run(self) -> None:
        for step in _steps(self._snapshot.roles):
            self._place_part(step)

    def _place_part(self, step: _Step) -> None:
        demand = self._demand(step)
        reason = unknown_model(demand)
        if reason is not None:
            self.refusals.append(Refusal(step.spec.name, step.part.name, None, reason))
            return
        for _ in range(step.count):
            choice = self._choose(demand) or self._choose(replace(demand, only_model=None))
            if choice is None:
                self.refusals.append(self._refusal(step, demand))
                return
            self._take(step, demand, choice)
            demand = self._demand(step)

    def _demand(self, step: _Step) -> Demand:
        role = step.spec.name
        mine = [one for one in self.placed if one.role == role]
        model = None
        if step.spec.keep_model:
            current = [*mine, *self._in_order(step.spec)]
            model = next((one.model for one in current if one.model), None)
            known = {one.name for one in self._models.get(role, ())}
            model = model if model in known else None
        return Demand(
            step.spec, step.part, self._preference(role), self._models.get(role, ()),
            first_engine=next((one.engine for one in mine if one.part == step.spec.parts[0].name), None),
            only_model=model,
        )  # fmt: skip

    def _in_order(self, spec: RoleSpec) -> list[Assignment]:
        """What holds of a role now, the first part first."""
        order = {part.name: index for index, part in enumerate(spec.parts)}
        return sorted(self._current.get(spec.name, {}).values(), key=lambda one: (order.get(one.part, 99), one.host))

    def _preference(self, role: str) -> RolePreference:
        return self._snapshot.preferences.get(role, RolePreference())

    # --- choosing -----------------------------------------------------------------------------------

    def _choose(self, demand: Demand) -> _Choice | None:
        best = next(self._feasible(demand, None), None)
        if best is None:
            return None
        for holders in self._holders(demand):
            held = next(self._feasible(demand, holders), None)
            if held is not None:
                stays = not beats(best[0], held[0])
                return _Choice((held if stays else best)[1], (held if stays else best)[2], stays)
        return _Choice(best[1], best[2], stays=False)

    def _holders(self, demand: Demand) -> Iterator[set[str]]:
        """Hosts that run this part now; failing those, hosts that are warm because they run another."""
        current = self._current.get(demand.spec.name, {})
        yield {host for host, one in current.items() if one.part == demand.part.name}
        yield {host for host, one in current.items() if one.part != demand.part.name}

    def _feasible(self, demand: Demand, among: set[str] | None) -> Iterator[tuple[Standing, Host, Fit]]:
        """Hosts that can take the part, best first; what is to be avoided comes after what is not."""
        if among is not None and not among:
            return
        avoided = self._avoided(demand.part)
        order = self._order(demand)
        if among is not None:
            order = [pair for pair in order if pair[1].id in among]
        if avoided:
            order = sorted((_apart(base, host.id in avoided), index, host) for index, (base, host) in enumerate(order))  # type: ignore[assignment]
        for entry in order:
            found = self._check(entry[-1], demand)  # type: ignore[arg-type]
            if isinstance(found, Fit):
                yield entry[0], entry[-1], found  # type: ignore[misc]

    def _order(self, demand: Demand) -> list[tuple[Standing, Host]]:
        role = demand.spec.name
        if role not in self._ordered:
            able = [host for host in self._hosts if barred(host, demand) is None]
            pairs = [(standing(host, demand.spec, demand.preference), host) for host in able]
            self._ordered[role] = sorted(pairs, key=lambda pair: pair[0], reverse=True)
        return self._ordered[role]
