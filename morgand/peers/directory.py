"""Who holds what and where hosts are, as this host last heard: what calls between hosts are routed by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from morgand.cluster import codec
from morgand.cluster.mirror import Mirror
from morgand.cluster.view import View
from morgand.peers.route import FIRST_PARTS, Holder
from morgand.state.host_names import display_names
from morgand.state.hosts import HostState
from morgand.state.roles import Assignment, RoleSpec, RoleState


class ClusterDirectory:
    """Implements ``peers.route.Directory`` over the copy of the cluster's truth."""

    def __init__(
        self, me: str, mirror: Mirror, own: Callable[[str], bool], *, specs: Mapping[str, RoleSpec],
        leased: Callable[[], bool],
    ) -> None:  # fmt: skip
        """``own``: whether this host performs a role now; ``leased``: whether the others count on it right now."""
        self._me, self._mirror, self._own, self._specs, self._leased = me, mirror, own, specs, leased
        self._view: View | None = None
        self._hosts: Mapping[str, codec.HostRecord] = {}
        self._assignments: dict[str, list[Assignment]] = {}
        self._ready: set[tuple[str, str]] = set()  # role, host

    @property
    def me(self) -> str:
        return self._me

    @property
    def alone(self) -> bool:
        """Only this host is known. One that has read nothing yet, or is not written down itself, cannot say so."""
        self._read()
        return self._hosts.keys() == {self._me}

    def next(self) -> asyncio.Event:
        return self._mirror.next()

    def holders(self, role: str) -> Sequence[Holder]:
        """Holders on hosts that are not fenced; one that says goodbye serves what it still holds.

        Of itself a host knows at once how it stands.
        """
        self._read()
        return [
            Holder(
                one.host, one.part, one.epoch,
                ready=self._own(role) if one.host == self._me else (role, one.host) in self._ready,
            )
            for one in self._assignments.get(role, ())
            if one.host in self._hosts and self._hosts[one.host].state is not HostState.FENCED
        ]  # fmt: skip

    def held(self, role: str) -> Assignment | None:
        """This host's own assignment of a role."""
        self._read()
        return next((one for one in self._assignments.get(role, ()) if one.host == self._me), None)

    def state_of(self, role: str) -> HostState | None:
        """How the host of a role's first part stands; None while nobody has it."""
        self._read()
        host = next((one.host for one in self._assignments.get(role, ()) if one.part in FIRST_PARTS), None)
        found = self._hosts.get(host) if host is not None else None
        return found.state if found is not None else None

    def term(self, role: str) -> int | None:
        """See ``peers.route.Acting``. What is stored on this host alone nobody else can act for."""
        held, spec = self.held(role), self._specs.get(role)
        if held is None or spec is None or not spec.exclusive or spec.binds(held.engine):
            return 0
        return held.epoch if self._leased() else None

    @property
    def cut_off(self) -> bool:
        """See ``peers.route.Directory``."""
        return not self._leased()

    def address_of(self, host: str) -> str | None:
        self._read()
        found = self._hosts.get(host)
        return found.peer or None if found else None

    def hosts(self) -> Mapping[str, codec.HostRecord]:
        self._read()
        return self._hosts

    def names(self) -> dict[str, str]:
        """Ids of hosts to what people call them."""
        return display_names({host: record.name for host, record in self.hosts().items()})

    def name_of(self, host: str) -> str:
        """What people call a host; the id of one that is not known."""
        return self.names().get(host, host)

    def others(self) -> list[str]:
        """Ids of the other hosts that can be spoken to."""
        return [host for host, record in self.hosts().items() if host != self._me and record.peer]

    def _read(self) -> None:
        view = self._mirror.view
        if view is self._view:
            return
        self._hosts = view.hosts
        self._assignments = {}
        for one in view.assignments:
            self._assignments.setdefault(one.role, []).append(one)
        self._ready = {
            (status.role, host)
            for host, said in view.statuses.items()
            for status in said.roles
            if status.state is RoleState.READY
        }
        self._view = view
