"""Who should run what: a function of one snapshot, and of nothing else.

Parts are placed in order: what is required first, then what is good to have, each in the order of the roles.
For every part the hosts are tried from the best standing down; whoever runs it stays unless another is better by
the margin (``rank.MARGIN``); a host that holds another part of the role (a warm standby) counts as running it. Copies
of an engine that elects stay: a better host gets one more, and the worst goes when the engine counts on that instead.
Who failed at a role has it only while nobody else can.
A part that comes earlier takes room from one that comes later, never the other way round. What is stored on one host
alone (a bound engine) stays on it, whatever becomes of the host, until it is no host of the cluster any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from morgand.scheduler.feasible import Demand, Fit, Room, barred, fit, unknown_model
from morgand.scheduler.growth import growth
from morgand.scheduler.rank import MARGIN, Standing, beats, merit, standing
from morgand.scheduler.reconcile import difference
from morgand.state.hosts import Host, HostState
from morgand.state.plans import Plan, Refusal, Snapshot
from morgand.state.roles import Assignment, Distance, Model, Part, RolePreference, RoleSpec

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
        self._growth = growth(snapshot)
        self._hosts = sorted(snapshot.hosts, key=lambda host: (host.name, host.id))
        self._room = {host.id: Room.of(host) for host in self._hosts}
        self._held: dict[str, dict[str, str]] = {host.id: {} for host in self._hosts}  # host -> role -> part
        self._current: dict[str, dict[str, Assignment]] = {}  # role -> host -> assignment
        for one in sorted(snapshot.assignments, key=lambda one: one.slot):
            self._current.setdefault(one.role, {})[one.host] = one
        self._ordered: dict[tuple[str, bool], list[tuple[Standing, Host]]] = {}  # of a role, or of its copies
        self._models = _by_role(snapshot.models)
        self._scarce = {spec.name: self._too_few_for(spec) for spec in snapshot.roles}
        self.placed: list[Assignment] = []
        self.refusals: list[Refusal] = []
        self.passed: list[Refusal] = []

    def run(self) -> None:
        steps = _steps(self._snapshot.roles)
        for step in steps:  # before anything is placed: room is what they leave
            for one in self._bound(step):
                self._room[one.host].take(Fit(one.engine, None, one.ram_mb, one.vram_mb, step.spec.disk_mb, one.gpu))
                self._held[one.host][one.role] = one.part
        for step in steps:
            self._place_part(step)

    def _place_part(self, step: _Step) -> None:
        demand = self._demand(step)
        reason = unknown_model(demand)
        if reason is not None:
            self.refusals.append(Refusal(step.spec.name, step.part.name, None, reason))
            return
        bound = self._bound(step)
        for one in bound:
            self._keep(one, demand)
        for _ in range(step.count - len(bound)):
            choice = self._choose(demand)
            if choice is None and demand.only_model and not self._has(step.spec):
                choice = self._choose(replace(demand, only_model=None))
            if choice is None:
                self.refusals.append(self._refusal(step, demand))
                return
            if self._is_premature(demand, choice):
                reason = f"{demand.elector} is choosing its {step.spec.parts[0].name}: until then nothing is copied"
                self.refusals.append(Refusal(step.spec.name, step.part.name, None, reason))
                return
            self._take(step, demand, choice)
            demand = self._demand(step)
        if step.part == step.spec.parts[-1] and demand.elector:
            self._reinforce(step, demand)

    def _is_premature(self, demand: Demand, choice: _Choice) -> bool:
        """Whether a new copy would be begun that has to wait, on processors that are needed for the choice itself."""
        role = demand.spec.name
        begun = demand.elector is not None and choice.host.id not in self._current.get(role, {})
        return begun and role in self._snapshot.unled

    def _reinforce(self, step: _Step, demand: Demand) -> None:
        """Copies beyond what the role needs: no copy is taken away while the engine does not count on all the others,
        and once it does a host that is better than the worst of them gets one more.

        As soon as the engine counts on the new one instead, the worst goes: never a copy that commits may wait for.
        """
        role = step.spec.name
        copies = {one.host for one in self.placed if one.role == role and one.part != step.spec.parts[0].name}
        held = self._current.get(role, {}).keys()
        further = list(self._feasible(demand, set(held)))
        if copies and copies <= self._snapshot.needed.get(role, frozenset()):
            worst = min(base for base, host in self._order(demand) if host.id in copies)
            fresh = (one for one in self._feasible(demand, None) if not one[1].on_probation)
            further = [one for one in (*further, *fresh) if beats(one[0], worst)][:1]
        for _, host, found in further:
            self._take(step, demand, _Choice(host, found, stays=host.id in held))

    def _bound(self, step: _Step) -> list[Assignment]:
        """What holds this part and is not ours to move, wherever its host is by now."""
        return [
            one
            for one in self._current.get(step.spec.name, {}).values()
            if one.part == step.part.name and step.spec.keeps(one.engine, one.part) and one.host in self._held
        ]

    def _keep(self, one: Assignment, demand: Demand) -> None:
        """A bound part stays. Where its host should not have it any more, the reason is told."""
        host = next(host for host in self._hosts if host.id == one.host)
        reason = barred(host, demand)
        if reason is not None:
            way = "it comes back with it" if host.state in (HostState.FENCED, HostState.LEFT) else "it stays there"
            alone = f"its data is on {host.display_name} alone, and {reason}"
            told = f"{alone}: {way}, or is given up when the host is removed"
            if not demand.spec.binds(one.engine):
                told = f"{one.engine} has not chosen another host yet, and {reason}"
            self.refusals.append(Refusal(one.role, one.part, one.host, told))
        self.placed.append(replace(one, epoch=self._snapshot.epoch))

    def _too_few_for(self, spec: RoleSpec) -> frozenset[str]:
        """Engines that are not begun with; what runs with one stays with it."""
        used = {one.engine for one in self._current.get(spec.name, {}).values()}
        able = Counter(
            option.name for host in self._hosts for option in spec.engines if host.profile.has_engine(option.name)
        )
        return frozenset(one.name for one in spec.engines if able[one.name] < one.hosts > 1 and one.name not in used)

    def _demand(self, step: _Step) -> Demand:
        role = step.spec.name
        mine = [one for one in self.placed if one.role == role]
        model = None
        if step.spec.keep_model:
            current = [*mine, *self._in_order(step.spec)]
            model = next((one.model for one in current if one.model), None)
            known = {one.name for one in self._models.get(role, ())}
            model = model if model in known else None
        first_engine = next((one.engine for one in mine if one.part == step.spec.parts[0].name), None)
        begun = [first_engine or "", *(one.engine for one in self._current.get(role, {}).values())]
        return Demand(
            step.spec, step.part, self._preference(role), self._models.get(role, ()), first_engine=first_engine,
            elector=next((engine for engine in begun if step.spec.elects(engine)), None), only_model=model,
            scarce=self._scarce.get(role, frozenset()),
        )  # fmt: skip

    def _has(self, spec: RoleSpec) -> bool:
        """Whether a part of the role is placed already, with a model that further parts must share."""
        return any(one.role == spec.name for one in self.placed)

    def _in_order(self, spec: RoleSpec) -> list[Assignment]:
        """What holds of a role now, the first part first."""
        order = {part.name: index for index, part in enumerate(spec.parts)}
        return sorted(self._current.get(spec.name, {}).values(), key=lambda one: (order.get(one.part, 99), one.host))

    def _preference(self, role: str) -> RolePreference:
        return self._snapshot.preferences.get(role, RolePreference())

    # --- choosing -----------------------------------------------------------------------------------

    def _choose(self, demand: Demand) -> _Choice | None:
        """Among the hosts that the role has not failed on. When there is none, whoever has it keeps it: it
        would fail on another one, too."""
        every, failed = {host.id for host in self._hosts}, self._failed(demand).keys()
        held = {one.host for one in self._current.get(demand.spec.name, {}).values() if one.part == demand.part.name}
        among = (every - failed, held & failed, every) if failed else (every,)
        return next((found for hosts in among if (found := self._best(demand, hosts)) is not None), None)

    def _best(self, demand: Demand, among: set[str]) -> _Choice | None:
        best = next(self._feasible(demand, among), None)
        if best is None:
            return None
        for holders, needed in self._holders(demand):
            held = next(self._feasible(demand, holders & among), None)
            if held is not None:
                stays = needed or demand.elector is not None or not beats(best[0], held[0])
                return _Choice((held if stays else best)[1], (held if stays else best)[2], stays)
        return _Choice(best[1], best[2], stays=False)

    def _failed(self, demand: Demand) -> Mapping[str, str]:
        """Hosts that could not perform the role, and why. An engine that elects looks after that itself."""
        return {} if demand.elector is not None else self._snapshot.failures.get(demand.spec.name, {})

    def _holders(self, demand: Demand) -> Iterator[tuple[set[str], bool]]:
        """Hosts that run this part now; failing those, hosts that are warm because they run another. Before them the
        hosts that the engine counts on (True), which no better host replaces.
        """
        current = self._current.get(demand.spec.name, {})
        mine = {host for host, one in current.items() if one.part == demand.part.name}
        needed = self._snapshot.needed.get(demand.spec.name, frozenset())
        yield mine & needed, True
        yield set(needed), True
        yield mine, False
        yield current.keys() - mine, False

    def _feasible(self, demand: Demand, among: set[str] | None) -> Iterator[tuple[Standing, Host, Fit]]:
        """Hosts that can take the part, best first."""
        if among is not None and not among:
            return
        for base, host in self._order(demand):
            if among is None or host.id in among:
                found = self._check(host, demand)
                if isinstance(found, Fit):
                    yield base, host, found

    def _order(self, demand: Demand) -> list[tuple[Standing, Host]]:
        """Hosts that are not barred, best first; what is to be avoided comes after what is not."""
        copies = demand.elector is not None
        key = demand.spec.name, copies
        if key not in self._ordered:
            able = [host for host in self._hosts if barred(host, demand) is None]
            pairs = [(standing(host, demand.spec, demand.preference, copy=copies), host) for host in able]
            self._ordered[key] = sorted(pairs, key=_better, reverse=True)  # a stable sort: equals stay by name
        avoided = self._avoided(demand.part)
        if not avoided:
            return self._ordered[key]
        pairs = [(_distanced(base, avoided=host.id in avoided), host) for base, host in self._ordered[key]]
        return sorted(pairs, key=_better, reverse=True)

    def _avoided(self, part: Part) -> set[str]:
        wanted = {(one.role, one.part) for one in part.apart if one.distance is Distance.AVOIDED}
        return {one.host for one in self.placed if (one.role, one.part) in wanted}

    def _check(self, host: Host, demand: Demand) -> Fit | str:
        """How the host would perform the part as things stand in this plan, or why it cannot."""
        held = self._held[host.id]
        role = demand.spec.name
        if role in held:
            return f"already runs its {held[role]}"
        current = self._current.get(role, {}).get(host.id)
        if self._growth is not None and host.new and current is None and role not in self._growth.roles:
            return f"{host.name} has just joined; first {self._growth.awaited}"
        if host.state is HostState.SUSPECT and current is None:
            return f"{host.display_name} is suspect: it keeps what it has and gets nothing new"
        if demand.spec.disk_mb and host.profile.disk.sick and current is None and len(self._hosts) > 1:
            disk = f"the disk of {host.display_name} is {host.profile.disk.level}"
            return f"{disk}: it keeps what it has and gets nothing new"
        for one in demand.part.apart:
            if one.distance is Distance.FORBIDDEN and held.get(one.role) == one.part:
                return f"runs {one.role} ({one.part}), and {role} must be on another host"
        return fit(host, self._room[host.id], demand, current)

    # --- recording ----------------------------------------------------------------------------------

    def _take(self, step: _Step, demand: Demand, choice: _Choice) -> None:
        if self._explain:
            self._record(demand, choice)
        host, found = choice.host, choice.fit
        assignment = Assignment(
            role=step.spec.name, part=step.part.name, host=host.id, engine=found.engine,
            epoch=self._snapshot.epoch, why=self._why(demand, choice), model=found.model.name if found.model else None,
            ram_mb=found.ram_mb, vram_mb=found.vram_mb, gpu=found.gpu,
        )  # fmt: skip
        self._room[host.id].take(found)
        self._held[host.id][step.spec.name] = step.part.name
        self.placed.append(assignment)

    def _why(self, demand: Demand, choice: _Choice) -> str:
        order = self._order(demand)
        spec, host, found = demand.spec, choice.host, choice.fit
        model = found.model
        if len(order) == 1:
            reason = "the only host that may"
        elif demand.preference.prefer and _preferred(order, host):
            reason = f"preferred by roles.{spec.name}.prefer"
        elif choice.stays and demand.elector:
            reason = f"has a copy: {merit(host, spec)}"
        elif choice.stays and order[0][1].id != host.id:
            reason = f"runs it already, and no host is better by {round((MARGIN - 1) * 100)} %"
        else:
            reason = f"best of {len(order)} hosts: {merit(host, spec)}"
        failed = [one.display_name for one in self._hosts if one.id in self._failed(demand) and one.id != host.id]
        if failed:
            reason += f"; it failed on {' and '.join(failed)}"
        if model is not None:
            where = f"GPU {found.gpu}" if found.gpu is not None else "CPU"
            reason += f"; {model.name} fits on the {where}"
        return f"{reason} ({found.note})" if found.note else reason

    def _record(self, demand: Demand, choice: _Choice) -> None:
        """Why every other host was passed over in this choice."""
        chosen = next(base for base, host in self._order(demand) if host.id == choice.host.id)
        standings = {host.id: base for base, host in self._order(demand)}
        for host in self._hosts:
            if host.id == choice.host.id:
                continue
            reason = barred(host, demand) or self._check(host, demand)
            if isinstance(reason, Fit) and host.id in self._failed(demand):
                reason = f"it failed there: {self._failed(demand)[host.id]}"
            if isinstance(reason, Fit):
                reason = _ranked_below(standings[host.id], chosen, host, choice, demand.spec)
            self.passed.append(Refusal(demand.spec.name, demand.part.name, host.id, reason))

    def _refusal(self, step: _Step, demand: Demand) -> Refusal:
        """Why a part found no host (or not enough of them), the hosts' own reasons gathered."""
        reasons: Counter[str] = Counter()
        first: dict[str, str] = {}
        for host in self._hosts:
            found = barred(host, demand) or self._check(host, demand)
            reason = found if isinstance(found, str) else "fits"
            reasons[reason] += 1
            first.setdefault(reason, host.display_name)
            if self._explain:
                self.passed.append(Refusal(step.spec.name, step.part.name, host.id, reason))
        if not reasons:
            return Refusal(step.spec.name, step.part.name, None, "there is no host")
        told = [
            f"{first[reason]}{f' and {count - 1} more' if count > 1 else ''}: {reason}"
            for reason, count in reasons.most_common(NAMED_HOSTS)
        ]
        rest = len(reasons) - len(told)
        text = "; ".join(told) + (f"; and {rest} more reasons" if rest else "")
        return Refusal(step.spec.name, step.part.name, None, text)


def _preferred(order: list[tuple[Standing, Host]], host: Host) -> bool:
    """Whether the host stands in the person's list (the first class of a standing)."""
    return next(base[0][0] for base, one in order if one.id == host.id) > 0


def _ranked_below(base: Standing, chosen: Standing, host: Host, choice: _Choice, spec: RoleSpec) -> str:
    if base > chosen and choice.stays and beats(base, chosen):
        return f"better ({merit(host, spec)}): gets a copy once {spec.name} counts on every one there is"
    if base > chosen and choice.stays:
        return f"better ({merit(host, spec)}), but not by the {round((MARGIN - 1) * 100)} % that would move what runs"
    if base[0] < chosen[0]:
        return f"{choice.host.display_name} is of the kind this role prefers"
    if base == chosen:
        return f"as good as {choice.host.display_name}, which was taken first"
    return f"{merit(host, spec)} against {merit(choice.host, spec)} on {choice.host.display_name}"


def _better(pair: tuple[Standing, Host]) -> Standing:
    return pair[0]


def _distanced(base: Standing, *, avoided: bool) -> Standing:
    """The standing with distance as its second class, after the person's own preference."""
    classes, measure, ties = base
    return (classes[0], int(not avoided), *classes[1:]), measure, ties


def _steps(roles: tuple[RoleSpec, ...]) -> list[_Step]:
    """What is required, then what is good to have."""
    required = [_Step(spec, part, part.low) for spec in roles for part in spec.parts if part.required]
    further = [
        _Step(spec, part, part.high - part.low if part.required else part.high) for spec in roles for part in spec.parts
    ]
    return [step for step in (*required, *further) if step.count > 0]


def _by_role(models: tuple[Model, ...]) -> dict[str, tuple[Model, ...]]:
    """Models per role, largest first."""
    found: dict[str, list[Model]] = {}
    for model in sorted(models, key=lambda one: (-one.size_mb, one.name, one.source)):
        found.setdefault(model.role, []).append(model)
    return {role: tuple(ones) for role, ones in found.items()}
