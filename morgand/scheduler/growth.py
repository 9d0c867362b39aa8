"""The order in which a cluster grows: etcd's voters, then copies of what must not be lost, then the rest. Pure.

A host that has just joined would otherwise be busy with models while etcd and PostgreSQL need its processors, and be
shown as ready while the loss of one host still stopped everything. It waits for a bounded time only (``Host.new``).
"""

from __future__ import annotations

from collections.abc import Iterable

from morgand.state.hosts import Duty, Host, HostState
from morgand.state.plans import Growth, Snapshot
from morgand.state.roles import Assignment, RoleSpec

VOTERS = 3


def growth(snapshot: Snapshot) -> Growth | None:
    """What is to come first, while the loss of one host would cost more than it must."""
    could = [one for one in able(snapshot.hosts, "etcd", witness=True) if one.profile.os == "linux"]
    always = sum(one.profile.duty is Duty.ALWAYS for one in could)
    if 0 < snapshot.voters < VOTERS <= len(could) and always > VOTERS // 2:
        return Growth(f"etcd gets {VOTERS} voters")
    short = [spec.name for spec in snapshot.roles if alone(snapshot, spec) is not None]
    return Growth(f"{' and '.join(short)} gets a copy on another host", frozenset(short)) if short else None


def alone(snapshot: Snapshot, spec: RoleSpec) -> Assignment | None:
    """What holds a role's first part, when nobody else has all that it has though there are hosts that could."""
    engine = next((option for option in spec.engines if option.elects), None)
    first = [one for one in snapshot.assignments if (one.role, one.part) == (spec.name, spec.parts[0].name)]
    if engine is None or not first:
        return None
    held, could = first[0], {one.id for one in able(snapshot.hosts, engine.name)}
    if len(could | ({held.host} if held.engine == engine.name else set())) < engine.hosts or not could - {held.host}:
        return None
    placed = {one.host for one in snapshot.assignments if one.role == spec.name}
    copied = snapshot.copied.get(spec.name, frozenset()) & could & placed if held.engine == engine.name else ()
    return None if copied else held


def able(hosts: Iterable[Host], engine: str, *, witness: bool = False) -> list[Host]:
    """Those that are there, stay, and can run it. ``witness``: also those that get no role."""
    there = (HostState.ALIVE, HostState.SUSPECT)
    return [
        one for one in hosts
        if one.state in there and not one.draining and (witness or not one.profile.witness)
        and one.profile.has_engine(engine)
    ]  # fmt: skip
