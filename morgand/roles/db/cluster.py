"""What the cluster knows of its database, as this host has it: from its copy of the store and from the detector."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol

from morgand.cluster import keys
from morgand.cluster.codec import HostRecord
from morgand.cluster.etcd import Endpoint
from morgand.cluster.mirror import Mirror
from morgand.roles.db.patroni_keys import ENGINE, PRIMARY, holders_in, patroni_in, secrets_in
from morgand.roles.db.site import Secrets
from morgand.state.hosts import HostState, PeerHealth
from morgand.state.schema_version import agreed_post


class DatabaseCluster(Protocol):
    """What PostgreSQL on this host goes by. All but ``secrets`` answer at once."""

    def epoch(self) -> int | None:
        """That of this host's assignment as the primary; None while it has none, or may not act by it."""
        ...

    def leads(self) -> bool:
        """Whether Patroni has chosen this host."""
        ...

    def fenced(self) -> Mapping[str, str]:
        """Hosts that were given up, each with its IP address; empty where another host has the same."""
        ...

    def quiet(self) -> frozenset[str]:
        """Hosts that may be gone."""
        ...

    def voters(self) -> Sequence[Endpoint]:
        """Whom Patroni here is to ask, the best first."""
        ...

    def agreed_post(self) -> int:
        """The last migration that every member knows, of those that take something away."""
        ...

    def changed(self) -> asyncio.Event:
        """Set when any of this may be another than at the call, but for who is quiet."""
        ...

    def heard(self) -> asyncio.Event:
        """Set when other hosts may be quiet than at the call."""
        ...

    async def secrets(self) -> Secrets:
        """Waits until a leader has made them."""
        ...


@dataclass(frozen=True, slots=True)
class KnownCluster:
    """Implements ``DatabaseCluster`` for the host ``me``. ``known``: etcd's voters, lost ones too; ``term`` is the
    directory's, ``sight`` what the detector sees of a host, ``heard`` set when that is another than at the call."""

    me: str
    mirror: Mirror
    known: Callable[[], Sequence[Endpoint]]
    term: Callable[[str], int | None]
    sight: Callable[[str], PeerHealth | None]
    heard: Callable[[], asyncio.Event]

    def epoch(self) -> int | None:
        mine = any(
            one.host == self.me and one.part == PRIMARY and one.engine == ENGINE for one in holders_in(self.mirror.view)
        )
        return self.term("db") if mine else None

    def leads(self) -> bool:
        return patroni_in(self.mirror).leader == self.me

    def fenced(self) -> dict[str, str]:
        hosts = self._hosts()
        lost = {one.id: address_of(one) for one in hosts if one.state is HostState.FENCED}
        kept = {address_of(one) for one in hosts if one.id not in lost}
        return {host: "" if address in kept else address for host, address in lost.items()}

    def quiet(self) -> frozenset[str]:
        return frozenset(one for one in self._members() if (sight := self.sight(one)) and sight.quiet)

    def voters(self) -> list[Endpoint]:
        """The etcd of this host first, which fails when this host does; last that of the primary's, which fails just
        when everybody else has to decide."""
        primary = {one.host for one in holders_in(self.mirror.view) if one.part == PRIMARY}
        lost = self.fenced()
        left = (one for one in self.known() if one.host_id not in lost)
        return sorted(left, key=lambda one: (one.host_id != self.me, one.host_id in primary))

    def agreed_post(self) -> int:
        return agreed_post(self._members(), {one.id: one.schema for one in self._hosts()})

    def changed(self) -> asyncio.Event:
        return self.mirror.next()

    async def secrets(self) -> Secrets:
        while True:
            changed = self.mirror.next()
            found = secrets_in(self.mirror)
            if found is not None:
                return found
            await changed.wait()

    def _hosts(self) -> Collection[HostRecord]:
        return self.mirror.view.hosts.values()

    def _members(self) -> list[str]:
        return [item.key.removeprefix(keys.MEMBERS) for item in self.mirror.list(keys.MEMBERS)]


def address_of(record: HostRecord) -> str:
    """The IP address by which others reach it; empty when that is not known."""
    with contextlib.suppress(ValueError):
        return str(ip_address(record.peer.rpartition(":")[0].strip("[]")))
    return ""
