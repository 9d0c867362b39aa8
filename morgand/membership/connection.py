"""The way of this host from being alone to being a member of a cluster, and its session there.

A lone host has no links to others and loads nothing of what they need; the first invitation founds the cluster while
the assistant goes on. A host that has joined finds its credentials in ``DATA_DIR/cluster`` and begins with them.
"""

from __future__ import annotations

import asyncio

from morgand.api.schema import InvitationReply
from morgand.base.clock import Clock
from morgand.base.errors import Conflict
from morgand.cluster import member_file
from morgand.cluster.mirror import Mirror
from morgand.cluster.switch import SwitchStore
from morgand.fingerprint.host_id import HostIdentity
from morgand.membership.context import MembershipContext
from morgand.membership.place import ClusterPlace
from morgand.peers.directory import ClusterDirectory


class ClusterConnection:
    """``run`` is a task of the daemon; what comes of it is told by ``place``."""

    def __init__(
        self, identity: HostIdentity, home: MembershipContext, place: ClusterPlace, *, store: SwitchStore,
        mirror: Mirror, directory: ClusterDirectory, clock: Clock,
    ) -> None:  # fmt: skip
        self._identity, self._home, self._place, self._store = identity, home, place, store
        self._mirror, self._directory, self._clock = mirror, directory, clock
        self._founding = asyncio.Lock()
        member = place.member()
        if member is not None:
            self._enter(member)

    async def ready(self) -> None:
        """Wait until the store can be used: at once on a lone host."""
        if self._place.session is not None:
            await self._place.session.connected.wait()

    async def run(self) -> None:
        """Nothing until this host is a member; then everything, until cancelled."""
        await (await self._place.entered()).run()

    async def invite(self) -> InvitationReply:
        """See ``api.backend.HostsApi``. Raises Conflict, Unavailable."""
        async with self._founding:
            if self._place.session is None:
                await self._found()
        return await (await self._place.entered()).invite()

    async def revoke(self, host: str) -> None:
        if self._place.session is None:
            raise Conflict("This host is alone: there is nobody to remove.")
        await self._place.session.revoke(host)

    async def goodbye(self) -> None:
        if self._place.session is not None:
            await self._place.session.goodbye()

    async def _found(self) -> None:
        from morgand.membership.create import found
        from morgand.membership.programs import etcd_process

        self._enter(await found(self._identity, self._home, store=self._store, clock=self._clock, etcd=etcd_process))

    def _enter(self, member: member_file.MemberFile) -> None:
        from morgand.membership.session import MemberSession

        session = MemberSession(
            member, self._home, store=self._store, mirror=self._mirror, directory=self._directory, clock=self._clock
        )
        self._place.enter(member, session)
