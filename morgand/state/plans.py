"""Plans as values: all that the scheduler sees, and what it makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from morgand.state.hosts import Host
from morgand.state.roles import Assignment, Model, RolePreference, RoleSpec


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a host was passed over for a role, or why a role could not be placed (``host`` is None)."""

    role: str
    part: str
    host: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class EngineElection:
    """What an engine that chooses its first part by itself says of that.

    ``needed``: hosts that no plan may take from it; ``led``: whether it has chosen one.
    """

    needed: frozenset[str]
    led: bool
    copied: frozenset[str] = frozenset()  # hosts that have all that the first part has


@dataclass(frozen=True, slots=True)
class Growth:
    """What has to be so before a host that has just joined is given anything but the roles that it takes for that."""

    awaited: str
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the scheduler sees: one consistent reading of the world."""

    revision: int
    epoch: int
    hosts: tuple[Host, ...]
    roles: tuple[RoleSpec, ...] = ()  # in order of importance
    assignments: tuple[Assignment, ...] = ()
    models: tuple[Model, ...] = ()
    preferences: Mapping[str, RolePreference] = field(default_factory=dict)
    needed: Mapping[str, frozenset[str]] = field(default_factory=dict)  # role -> hosts its engine counts on
    unled: frozenset[str] = frozenset()  # roles whose engine is choosing its first part: there is nothing to copy
    copied: Mapping[str, frozenset[str]] = field(default_factory=dict)  # role -> hosts with all of its first part
    failures: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # role -> hosts it failed on, and why
    voters: int = 0  # of etcd; a lone host has none


@dataclass(frozen=True, slots=True)
class Plan:
    """The assignments that should hold, and the difference to those that do."""

    id: str
    revision: int
    assignments: tuple[Assignment, ...]
    added: tuple[Assignment, ...] = ()
    removed: tuple[Assignment, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.added or self.removed)
