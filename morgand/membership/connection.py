"""Whether this host is alone or a member of a cluster, and its way from one to the other.

A lone host has no links to others and loads nothing of what they need; the first invitation founds the cluster while
the assistant goes on. A host that has joined finds its credentials in ``DATA_DIR/cluster`` and begins with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from morgand.api.schema import InvitationReply
from morgand.base.clock import Clock
from morgand.base.errors import Conflict
from morgand.cluster import member_file
from morgand.cluster.etcd import Endpoint, EtcdClient
from morgand.cluster.mirror import Mirror
from morgand.cluster.switch import SwitchStore
from morgand.fingerprint.host_id import HostIdentity
from morgand.membership.context import MembershipContext
from morgand.membership.lease import fenced_hosts
from morgand.peers.client import PeerClient
from morgand.peers.directory import ClusterDirectory
from morgand.state.hosts import Member, PeerHealth

if TYPE_CHECKING:  # loaded when this host becomes a member
    from morgand.membership.session import MemberSession


class ClusterConnection:
    """``run`` is a task of the daemon; the rest may be asked at any time."""

    def __init__(
        self, identity: HostIdentity, home: MembershipContext, *, store: SwitchStore, mirror: Mirror,
        directory: ClusterDirectory,
        clock: Clock,
    ) -> None:  # fmt: skip
        self._identity, self._home, self._store = identity, home, store
        self._mirror, self._directory, self._clock = mirror, directory, clock
        self._membership = member_file.read(home.folder)
        self._founding = asyncio.Lock()
        self._linked = asyncio.Event()
        self._links: MemberSession | None = None
        if self._membership is not None:
            self._link(self._membership)

    @property
    def alone(self) -> bool:
        return self._membership is None

    @property
    def cluster_id(self) -> str:
        return self._membership.cluster if self._membership else self._identity.cluster_id

    @property
    def peer_address(self) -> str:
        """Address and port of this host's API for hosts; empty while it is alone."""
        return self._membership.api if self._membership else ""

    @property
    def member(self) -> member_file.MemberFile | None:
        """None while this host is alone."""
        return self._links.membership if self._links else self._membership

    def voters(self) -> Sequence[Endpoint]:
        """Where etcd's members are, but for those on hosts that are given up."""
        fenced = fenced_hosts(self._directory.hosts())
        return [one for one in self._links.voters() if one.host_id not in fenced] if self._links else []

    def client(self) -> PeerClient | None:
        return self._links.peers if self._links else None

    def members(self) -> Mapping[str, Member]:
        return self._links.members() if self._links else {}

    async def ready(self) -> None:
        """Wait until the store can be used: at once on a lone host."""
        if self._links is not None:
            await self._links.connected.wait()

    def sight(self, host: str) -> PeerHealth | None:
        return self._links.beats.sight(host) if self._links else None

    def next(self) -> asyncio.Event:
        """Set when other hosts are seen otherwise than at this call."""
        return self._links.beats.next() if self._links else self._linked

    @property
    def leased(self) -> bool:
        """Whether the others count on this host: it may act for what only one host may do."""
        return self._links is None or self._directory.alone or self._links.pulse.leased

    def etcd(self) -> EtcdClient | None:
        """None while this host is alone."""
        return self._links.etcd if self._links else None

    async def run(self) -> None:
        """Nothing until this host is a member; then everything, until cancelled."""
        await self._linked.wait()
        assert self._links is not None
        await self._links.run()

    async def invite(self) -> InvitationReply:
        """See ``api.backend.Members``. Raises Conflict, Unavailable."""
        async with self._founding:
            if self._links is None:
                await self._found()
        assert self._links is not None
        return await self._links.invite()

    async def revoke(self, host: str) -> None:
        if self._links is None:
            raise Conflict("This host is alone: there is nobody to remove.")
        await self._links.revoke(host)

    async def goodbye(self) -> None:
        if self._links is not None:
            await self._links.goodbye()

    async def _found(self) -> None:
        from morgand.membership.create import found
        from morgand.membership.programs import etcd_process

        self._membership = await found(
            self._identity, self._home, store=self._store, clock=self._clock, etcd=etcd_process
        )
        self._link(self._membership)

    def _link(self, member: member_file.MemberFile) -> None:
        from morgand.membership.session import MemberSession

        self._links = MemberSession(
            member, self._home, store=self._store, mirror=self._mirror, directory=self._directory, clock=self._clock
        )
        self._linked.set()
