"""What the scheduler sees, read from the store: one consistent reading of the world. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from morgand.cluster import keys
from morgand.cluster.codec import HostRecord
from morgand.cluster.election import epoch_in
from morgand.cluster.store import Item
from morgand.cluster.view import View
from morgand.state.host_names import suffixes
from morgand.state.hosts import Host
from morgand.state.plans import EngineElection, Snapshot
from morgand.state.roles import Model, RolePreference, RoleSpec

PROBATION = timedelta(seconds=30)
NEW = timedelta(seconds=90)  # who joined longer ago waits for nothing (``scheduler/growth``)


ElectionReader = Callable[[Mapping[str, Item], int], EngineElection]  # the store's items by key, and their revision


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the planner knows besides the store: the roles, the models, and this host's own preferences."""

    roles: tuple[RoleSpec, ...]
    models: tuple[Model, ...]
    preferences: Mapping[str, RolePreference]
    now: datetime | None = None  # None: nobody is on probation
    elections: Mapping[str, ElectionReader] = field(default_factory=dict)  # by role


def read_snapshot(view: View, inputs: Inputs) -> Snapshot:
    """What the scheduler sees of it; a host without a profile is not a host yet.

    What is planned from it begins the next epoch, so that a role that moves twice never has the same one twice.
    """
    epoch = epoch_in(view.items.get(keys.EPOCH), view.items.get(keys.ELECTION)) + 1
    settings = {
        key.removeprefix(keys.CONFIG): msgspec.json.decode(item.value)
        for key, item in view.items.items()
        if key.startswith(keys.CONFIG)
    }
    elections = {role: read(view.items, view.revision) for role, read in inputs.elections.items()}
    return Snapshot(
        revision=view.revision, epoch=epoch, hosts=read_hosts(view, inputs.now), roles=inputs.roles,
        assignments=view.assignments,
        models=inputs.models, preferences=merged(inputs.preferences, settings),
        needed={role: one.needed for role, one in elections.items()},
        unled=frozenset(role for role, one in elections.items() if not one.led),
        copied={role: one.copied for role, one in elections.items()}, failures=_failures(view),
        voters=len(view.voting),
    )  # fmt: skip


def read_hosts(view: View, now: datetime | None) -> tuple[Host, ...]:
    """The hosts that have a profile. ``now`` None: nobody is on probation, nor new."""
    hosts = []
    for record in view.hosts.values():
        if (profile := view.profiles.get(record.id)) is not None:
            on_trial, new = now is not None and on_probation(record, now), now is not None and is_new(record, now)
            facts = (record.address, profile, record.state, record.labels, record.draining, on_trial, new)
            hosts.append(Host(record.id, record.name, *facts))
    more = suffixes({host.id: host.name for host in hosts})
    return tuple(replace(host, suffix=more.get(host.id, "")) for host in hosts)


def _failures(view: View) -> dict[str, dict[str, str]]:
    """By role: the hosts that could not perform it, and why."""
    found: dict[str, dict[str, str]] = {}
    for host, failures in view.failures.items():
        for one in failures.roles:
            found.setdefault(one.role, {})[host] = one.reason
    return found


def merged(own: Mapping[str, RolePreference], settings: Mapping[str, Any]) -> dict[str, RolePreference]:
    """The host's own preferences with the cluster's shared settings laid over them."""
    found = dict(own)
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        role = section.removeprefix("roles.")
        if section.startswith("roles.") and name in ("prefer", "forbid"):
            was = found.get(role, RolePreference())
            found[role] = replace(was, prefer=tuple(value)) if name == "prefer" else replace(was, forbid=tuple(value))
        elif name == "model":  # a section of settings that is called as its role
            found[section] = replace(found.get(section, RolePreference()), model=value or None)
    return found


def on_probation(record: HostRecord, now: datetime) -> bool:
    """Whether a host was welcomed back a moment ago. A wall clock that was set meanwhile costs a moment at most."""
    return record.returned is not None and abs(now - record.returned) < PROBATION


def is_new(record: HostRecord, now: datetime) -> bool:
    """Whether a host joined a moment ago; of the wall clock as above."""
    return record.joined is not None and abs(now - record.joined) < NEW
