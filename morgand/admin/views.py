"""What ``status``, ``hosts`` and ``roles`` show: the wire's views, built from values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from morgand.api.schema import (
    ClusterView,
    DatabaseView,
    ExplainReply,
    HostView,
    PlacementView,
    PlanReply,
    QuorumView,
    RefusalView,
    RoleView,
    StandbyView,
    UsageView,
    VoterView,
)
from morgand.base.disk import DiskLevel
from morgand.roles.db.patroni import standings
from morgand.roles.db.patroni_keys import Patroni
from morgand.roles.db.spec import SPEC as DB
from morgand.scheduler.explain import Explanation
from morgand.scheduler.growth import alone
from morgand.state.hosts import Host, HostState, Profile, Usage
from morgand.state.plans import Plan, Refusal, Snapshot
from morgand.state.roles import Assignment, RoleSpec, RoleState, RoleStatus


def host_view(host: Host, assignments: tuple[Assignment, ...], usage: Usage, api_port: int) -> HostView:
    """One host with the roles it holds."""
    return HostView(
        id=host.id,
        name=host.name,
        address=host.address,
        state=host.state.value,
        duty=host.profile.duty.value,
        roles=sorted({one.role for one in assignments if one.host == host.id}),
        profile=profile_view(host.profile),
        usage=UsageView(cpu_pct=usage.cpu_pct, ram_mb=usage.ram_mb, vram_mb=usage.vram_mb),
        draining=host.draining,
        labels=list(host.labels),
        api_port=api_port,
        witness=host.profile.witness,
        display_name=host.display_name,
    )


def profile_view(profile: Profile) -> dict[str, object]:
    """A profile as plain JSON values."""
    view: dict[str, object] = msgspec.to_builtins(profile)
    return view


def _names(hosts: Sequence[Host]) -> Mapping[str, str]:
    return {host.id: host.display_name for host in hosts}


def role_view(status: RoleStatus, name: str = "") -> RoleView:
    return RoleView(
        role=status.role, part=status.part, host=status.host, state=status.state.value, epoch=status.epoch,
        why=status.why, model=status.model, detail=status.detail or _loading(status.state, status.model),
        host_name=name,
    )  # fmt: skip


def _loading(state: RoleState, model: str | None) -> str | None:
    return f"loading {model}" if state is RoleState.STARTING and model else None


def role_views(
    assignments: tuple[Assignment, ...], statuses: list[RoleStatus], hosts: tuple[Host, ...],
    silent: frozenset[str] = frozenset(),
) -> list[RoleView]:  # fmt: skip
    """Every assignment with what its host says of it; one that is not yet acted on is starting, and what is assigned
    to a host that is not there (its data is on it alone) has failed. What is no longer assigned is on its way out.

    ``silent``: hosts that nobody can give up, and that do not answer.
    """
    gone = (HostState.FENCED, HostState.LEFT)
    away = {host.id: f"{host.display_name} is {host.state.value}" for host in hosts if host.state in gone}
    away |= {host.id: f"{host.display_name} does not answer" for host in hosts if host.id in silent}
    names = _names(hosts)
    said = {(one.role, one.part, one.host): one for one in statuses if one.host not in away}
    views = []
    for one in assignments:
        if one.host in away:
            found = _unsaid(one, RoleState.FAILED, away[one.host])
        else:
            found = said.pop(one.slot) if one.slot in said else _unsaid(one, RoleState.STARTING, None)
        views.append(role_view(found, names.get(one.host, one.host)))
    leaving = [replace(one, state=RoleState.STOPPING) for one in said.values()]
    return views + [role_view(one, names.get(one.host, one.host)) for one in leaving]


def _unsaid(one: Assignment, state: RoleState, detail: str | None) -> RoleStatus:
    """How a role stands of which its host says nothing."""
    return RoleStatus(one.role, one.part, one.host, state, one.epoch, one.why, one.model, detail)


def cluster_view(cluster_id: str, name: str, leader: str | None, epoch: int, voters: tuple[Host, ...]) -> ClusterView:
    """``tolerates``: how many further voters may be lost before nothing can be decided."""
    views = [VoterView(id=one.id, name=one.name, healthy=one.state is HostState.ALIVE) for one in voters]
    needed = len(views) // 2 + 1
    healthy = sum(view.healthy for view in views)
    quorum = QuorumView(voters=views, needed=needed, healthy=healthy, tolerates=max(healthy - needed, 0))
    return ClusterView(id=cluster_id, name=name, leader=leader, epoch=epoch, quorum=quorum)


def database_view(assignments: tuple[Assignment, ...], patroni: Patroni, *, lost: bool) -> DatabaseView:
    """``lost``: nothing can be decided and nobody serves the database, so that nobody is its primary.

    Patroni still knows for a while of copies that are no longer kept.
    """
    held = [one for one in assignments if one.role == DB.name]
    primary = next((one for one in held if one.part == "primary"), None)
    kept = {one.host for one in held}
    copies = [one for one in standings(patroni) if one.follows and one.host in kept]
    return DatabaseView(
        primary=primary.host if primary and not lost else None,
        engine=primary.engine if primary else None,
        standbys=[StandbyView(host=one.host, sync=one.sync, lag_bytes=one.lag_bytes) for one in copies],
    )


def warnings(
    hosts: tuple[Host, ...], voters: tuple[Host, ...], roles: list[RoleView], failed_documents: int,
    silent: frozenset[str] = frozenset(), *, specs: Sequence[RoleSpec],
) -> list[str]:  # fmt: skip
    """What a person should know, in sentences with the next step. ``specs``: the roles there are.

    Of what is on ``silent`` hosts enough is said.
    """
    found = [
        f"{host.display_name} is {host.state.value}: switch it on, or remove it with "
        f"`morganctl hosts remove {host.handle}`."
        for host in hosts
        if host.state in (HostState.FENCED, HostState.LEFT)
    ]
    found += _quorum_warnings(hosts, voters)
    found += [told for host in hosts if (told := _disk_warning(host, roles, specs)) is not None]
    found += [
        f"{one.role} has failed{_where(one, hosts)}: {one.detail or 'see its log'} (`morganctl logs {one.role}`)."
        for one in roles
        if one.state == RoleState.FAILED.value and one.host not in silent
    ]
    placed = {one.role for one in roles}
    missing = [spec.name for spec in specs if spec.needed and spec.name not in placed]
    found += [f"{role} is not placed: see `morganctl roles explain {role}`." for role in missing]
    if failed_documents:
        found.append(f"{failed_documents} documents could not be ingested: see `morganctl documents list`.")
    return found


def _where(role: RoleView, hosts: Sequence[Host]) -> str:
    """Of a lone host nobody needs to be told which."""
    return f" on {role.host_name}" if len(hosts) > 1 and role.host_name else ""


def copy_warnings(snapshot: Snapshot) -> list[str]:
    """Whose loss would take what another host could have as well."""
    names = {host.id: host.display_name for host in snapshot.hosts}
    held = [one for spec in snapshot.roles if (one := alone(snapshot, spec)) is not None]
    return [
        f"Only {names.get(one.host, one.host)} has all that {one.role} stores; until another host has it too, "
        "its loss would stop every write."
        for one in held
    ]


def failure_warnings(snapshot: Snapshot) -> list[str]:
    """What was taken from a host since it could not perform it. Where it is still there its own state says so."""
    names = {host.id: host.display_name for host in snapshot.hosts}
    held = {(one.role, one.host) for one in snapshot.assignments}
    return [
        f"{role} could not be performed on {names[host]} and is elsewhere: {reason} (`morganctl roles explain {role}`)."
        for role, hosts in sorted(snapshot.failures.items())
        for host, reason in sorted(hosts.items())
        if host in names and (role, host) not in held
    ]


def _disk_warning(host: Host, roles: list[RoleView], specs: Sequence[RoleSpec]) -> str | None:
    """What is wrong with a host's disk, and what to do; None where it is well, or the host is away."""
    disk = host.profile.disk
    if host.state in (HostState.FENCED, HostState.LEFT) or disk.level is DiskLevel.WELL:
        return None
    storing = {(spec.name, spec.parts[0].name) for spec in specs if spec.single_writer}
    there = sorted(one.role for one in roles if one.host == host.id and (one.role, one.part) in storing)
    until = f"Until then {' and '.join(there)} can store nothing new there." if there else ""
    told = {
        DiskLevel.LOW: f" has little space left ({disk.free_mb} MB): free some under {disk.path} before it is full.",
        DiskLevel.FULL: f" is full ({disk.free_mb} MB left): free some space under {disk.path}. {until}",
        DiskLevel.READ_ONLY: f" can only be read: see `dmesg` there, repair it and mount {disk.path} anew. {until}",
        DiskLevel.FAILING: f" fails: see `dmesg` there, and replace the disk of {disk.path}. {until}",
        DiskLevel.SLOW: f" is slow (a small write takes {disk.fsync_ms:.0f} ms): end what keeps it busy or replace it.",
    }
    return f"{host.display_name}'s disk{told[disk.level]}".rstrip()


def outbox_warnings(host: str, undelivered: int, refused: Sequence[str], damaged: Sequence[Path]) -> list[str]:
    """What a person should know of the messages kept on this host; ``refused`` are the reasons."""
    found = []
    if undelivered:
        waiting = "1 message waits" if undelivered == 1 else f"{undelivered} messages wait"
        found.append(f"{waiting} on {host} and will be sent as soon as the database can be reached.")
    if refused:
        messages = "1 message" if len(refused) == 1 else f"{len(refused)} messages"
        found.append(
            f"{messages} kept on {host} were refused by the database ({refused[-1]}): see "
            "`morganctl conversations waiting`, then discard with `morganctl conversations discard ID`."
        )
    if damaged:
        found.append(f"{len(damaged)} messages kept on {host} are damaged and cannot be sent: see {damaged[-1]}.")
    return found


def _quorum_warnings(hosts: tuple[Host, ...], voters: tuple[Host, ...]) -> list[str]:
    """Which loss would stop every decision, where there is more than one host."""
    healthy = [one.display_name for one in voters if one.state is HostState.ALIVE]
    if len(hosts) < 2 or len(healthy) != len(voters) // 2 + 1:
        return []  # or it is too late for a warning
    told = f"The loss of {' or '.join(healthy)} would stop every decision."
    return [f"{told} Any third always-on box that joins ends that." if len(hosts) == 2 else told]


def placement_views(found: Sequence[Assignment], names: Mapping[str, str]) -> list[PlacementView]:
    return [
        PlacementView(
            role=one.role, part=one.part, host=one.host, engine=one.engine, why=one.why, model=one.model,
            host_name=names.get(one.host, one.host),
        )
        for one in found
    ]  # fmt: skip


def refusal_views(found: Sequence[Refusal], names: Mapping[str, str]) -> list[RefusalView]:
    return [
        RefusalView(
            role=one.role, part=one.part, host=one.host, reason=one.reason,
            host_name=names.get(one.host, one.host) if one.host is not None else "",
        )
        for one in found
    ]  # fmt: skip


def explain_view(told: Explanation, hosts: Sequence[Host]) -> ExplainReply:
    names = _names(hosts)
    return ExplainReply(
        placements=placement_views(told.placements, names), refusals=refusal_views(told.refusals, names)
    )


def plan_view(plan: Plan, hosts: Sequence[Host]) -> PlanReply:
    """``hosts``: those that the plan is made for, and those it takes things from."""
    names = _names(hosts)
    return PlanReply(
        added=placement_views(plan.added, names),
        removed=placement_views(plan.removed, names),
        placements=placement_views(plan.assignments, names),
        refusals=refusal_views(plan.refusals, names),
    )
