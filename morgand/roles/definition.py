"""What a role is to the rest of Morgan: one value in each role's folder, and nobody else knows a role's name.

The catalogue lists the definitions. The planner goes by ``spec``; the profile and ``morgand check`` by ``engines``, so
that a host announces only what it can perform; the host's agent by ``perform``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from morgand.cluster.snapshot import ElectionReader
from morgand.fingerprint.engines import EngineSource
from morgand.roles.base import HostContext, RoleService
from morgand.state.roles import Assignment, Model, RoleSpec

Perform = Callable[[HostContext, Assignment, Model | None], RoleService]


@dataclass(frozen=True, slots=True)
class RoleDefinition:
    """``engines``: how those that the spec names are found on a host, and how a person gets them.

    ``perform``: by engine, the service of an assignment (with its model, if it has one). A role that needs more of the
    daemon than every host has (the database its cluster, core the assistant) leaves that to the wiring and names the
    engines under ``wired``. ``stores``: folders of the data directory that hold what it keeps. ``election``: reads what
    an engine says that chooses its first part by itself.
    """

    spec: RoleSpec
    engines: tuple[EngineSource, ...] = ()
    perform: Mapping[str, Perform] = field(default_factory=dict)
    wired: frozenset[str] = frozenset()
    stores: tuple[str, ...] = ()
    election: ElectionReader | None = None

    @property
    def performed(self) -> frozenset[str]:
        """Engines that this version can perform the role with."""
        return frozenset(self.perform) | self.wired
