"""This host's place in a cluster, as everybody on the host may ask at any moment: alone, or a member with its session.

Made before anything that asks. Only ``membership.connection`` changes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from morgand.cluster.etcd import Endpoint, EtcdClient
from morgand.cluster.member_file import MemberFile
from morgand.cluster.mirror import Mirror
from morgand.peers.client import PeerClient
from morgand.state.hosts import Member, PeerHealth

if TYPE_CHECKING:  # loaded when this host becomes a member
    from morgand.membership.session import MemberSession


class ClusterPlace:
    """Implements ``host.connection.Connection``."""

    def __init__(self, me: str, own_cluster: str, membership: MemberFile | None, mirror: Mirror) -> None:
        """``own_cluster``: the id of this host's own cluster, of which it is while it is alone."""
        self._me, self._own_cluster, self._membership, self._mirror = me, own_cluster, membership, mirror
        self._session: MemberSession | None = None
        self._entered = asyncio.Event()

    def enter(self, membership: MemberFile, session: MemberSession) -> None:
        """This host is a member from now on."""
        self._membership, self._session = membership, session
        self._entered.set()

    async def entered(self) -> MemberSession:
        """Wait until this host is a member."""
        await self._entered.wait()
        assert self._session is not None
        return self._session

    @property
    def session(self) -> MemberSession | None:
        return self._session

    @property
    def alone(self) -> bool:
        return self._membership is None

    @property
    def cluster_id(self) -> str:
        return self._membership.cluster if self._membership else self._own_cluster

    @property
    def peer_address(self) -> str:
        """Address and port of this host's API for hosts; empty while it is alone."""
        return self._membership.api if self._membership else ""

    @property
    def leased(self) -> bool:
        """Whether the others count on this host: it may act for what only one host may do. Where it alone is written
        down there are no others; one that is not written down yet cannot say so."""
        return self._session is None or self._mirror.view.hosts.keys() == {self._me} or self._session.pulse.leased

    def member(self) -> MemberFile | None:
        """None while this host is alone."""
        return self._session.membership if self._session else self._membership

    def voters(self) -> Sequence[Endpoint]:
        """Where etcd's members are."""
        return self._session.voters() if self._session else []

    def client(self) -> PeerClient | None:
        """The way to the other hosts; None while this one is alone."""
        return self._session.peers if self._session else None

    def members(self) -> Mapping[str, Member]:
        """Hosts as gossip sees them."""
        return self._session.members() if self._session else {}

    def sight(self, host: str) -> PeerHealth | None:
        """What the detector sees of a host; None when it knows nothing of it."""
        return self._session.beats.sight(host) if self._session else None

    def next(self) -> asyncio.Event:
        """Set when other hosts are seen otherwise than at this call."""
        return self._session.beats.next() if self._session else self._entered

    def etcd(self) -> EtcdClient | None:
        """None while this host is alone."""
        return self._session.etcd if self._session else None

    async def answers(self, host: str, within_s: float) -> bool:
        """Whether another host's API does."""
        client = self.client()
        return client is not None and await client.alive(host, within_s)
