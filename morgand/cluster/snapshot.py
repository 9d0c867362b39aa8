"""What the scheduler sees, read from the store: one consistent reading of the world. Pure but for the reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from morgand.cluster import codec, keys
from morgand.cluster.codec import HostRecord
from morgand.cluster.election import epoch_in
from morgand.cluster.store import ClusterStore, Item
from morgand.cluster.voters import VoterRecord, VoterState
from morgand.state.host_names import suffixes
from morgand.state.hosts import Host, Profile
from morgand.state.plans import EngineElection, Snapshot
from morgand.state.roles import Assignment, Model, RolePreference, RoleSpec

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


async def snapshot_of(store: ClusterStore, inputs: Inputs) -> Snapshot:
    """One consistent reading of the world."""
    items, revision = await store.list("/")
    return read_snapshot(items, revision, inputs)


def read_snapshot(items: Sequence[Item], revision: int, inputs: Inputs) -> Snapshot:
    """The snapshot that stands in these items; a host without a profile is not a host yet.

    What is planned from it begins the next epoch, so that a role that moves twice never has the same one twice.
    """
    counters = {item.key: item for item in items if item.key in (keys.EPOCH, keys.ELECTION)}
    epoch = epoch_in(counters.get(keys.EPOCH), counters.get(keys.ELECTION)) + 1
    assignments = tuple(
        codec.decode(Assignment, item.value, key=item.key) for item in items if item.key.startswith(keys.ASSIGNMENTS)
    )
    settings = {
        item.key.removeprefix(keys.CONFIG): msgspec.json.decode(item.value)
        for item in items
        if item.key.startswith(keys.CONFIG)
    }
    by_key = {item.key: item for item in items}
    elections = {role: read(by_key, revision) for role, read in inputs.elections.items()}
    return Snapshot(
        revision=revision, epoch=epoch, hosts=read_hosts(items, inputs.now), roles=inputs.roles,
        assignments=assignments,
        models=inputs.models, preferences=merged(inputs.preferences, settings),
        needed={role: one.needed for role, one in elections.items()},
        unled=frozenset(role for role, one in elections.items() if not one.led),
        copied={role: one.copied for role, one in elections.items()}, failures=_failures(items),
        voters=_voters(items),
    )  # fmt: skip


def read_hosts(items: Sequence[Item], now: datetime | None) -> tuple[Host, ...]:
    """The hosts that have a profile. ``now`` None: nobody is on probation, nor new."""
    profiles = {item.key: item for item in items if item.key.startswith(keys.PROFILES)}
    hosts = []
    for item in items:
        if item.key.startswith(keys.HOSTS):
            record = codec.decode(codec.HostRecord, item.value, key=item.key)
            found = profiles.get(keys.profile(record.id))
            if found is not None:
                profile = codec.decode(Profile, found.value, key=found.key)
                on_trial, new = now is not None and on_probation(record, now), now is not None and is_new(record, now)
                facts = (record.address, profile, record.state, record.labels, record.draining, on_trial, new)
                hosts.append(Host(record.id, record.name, *facts))
    more = suffixes({host.id: host.name for host in hosts})
    return tuple(replace(host, suffix=more.get(host.id, "")) for host in hosts)


def _failures(items: Sequence[Item]) -> dict[str, dict[str, str]]:
    """By role: the hosts that could not perform it, and why."""
    found: dict[str, dict[str, str]] = {}
    for item in items:
        if item.key.startswith(keys.FAILURES):
            for one in codec.decode(codec.HostFailures, item.value, key=item.key).roles:
                found.setdefault(one.role, {})[item.key.removeprefix(keys.FAILURES)] = one.reason
    return found


def _voters(items: Sequence[Item]) -> int:
    """How many hosts vote, learners not yet."""
    records = [
        codec.decode(VoterRecord, item.value, key=item.key) for item in items if item.key.startswith(keys.VOTERS)
    ]
    return sum(one.state is VoterState.VOTER for one in records)


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
