"""What a member says in the gossip, and whom it looks for there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from morgand import __version__
from morgand.base.clock import Clock
from morgand.base.errors import Unavailable
from morgand.cluster import keys
from morgand.cluster.member_file import MemberFile
from morgand.cluster.mirror import Mirror
from morgand.gossip import membership as gossip
from morgand.gossip import tags
from morgand.gossip.agent import Place
from morgand.gossip.discovery import advertised
from morgand.membership.context import MembershipContext
from morgand.membership.create import gossip_key
from morgand.membership.programs import keeper
from morgand.state.hosts import Member

log = logging.getLogger("morgand.gossiping")

GOSSIP_PORT = 1  # after the host's first port
RETRY_S = 0.5
ROTATE_S = 30.0  # a host that was removed takes a moment to be gone from gossip


class GossipPublisher:
    """``run``, ``advertise`` and ``keep_tags`` are tasks. ``member`` is this host as it is now."""

    def __init__(self, member: Callable[[], MemberFile], home: MembershipContext, mirror: Mirror, clock: Clock) -> None:
        self._member, self._home, self._mirror, self._clock = member, home, mirror, clock
        me = member()
        place = Place(me.host, me.address, me.port + GOSSIP_PORT, home.folder)
        self._gossip = gossip.GossipMembership(place, keeper(home, clock), self._seeds, clock)

    def members(self) -> Mapping[str, Member]:
        return self._gossip.members()

    async def run(self) -> None:
        """Raises EngineError when Serf is not installed."""
        await self._gossip.run()

    async def advertise(self) -> None:
        """Let hosts of the same network that look for a cluster find this one."""
        me = self._member()
        async with advertised(me.cluster, self._home.name, me.host, me.address, me.port):
            await asyncio.Event().wait()

    async def keep_tags(self) -> None:
        """What this host says of itself follows what it is."""
        told: dict[str, str] = {}
        while True:
            changed = self._mirror.next()
            me = self._member()
            said = tags.encode(
                self._home.profile(), name=self._home.name, version=__version__, peer=me.api,
                voter=self._mirror.get(keys.voter(me.host)) is not None,
            )  # fmt: skip
            if said != told:
                await self._gossip.set_tags(said)
                told = said
            await changed.wait()

    async def meet(self) -> None:
        """Let gossip know where the others are."""
        await self._gossip.join(self._seeds())

    async def forget(self, host: str) -> None:
        """A host that was removed is gone from gossip, and what it knows of it is changed.

        Gossip is a hint, so nobody waits for this; that it did not work is told.
        """
        deadline = self._clock.monotonic() + ROTATE_S
        while True:
            try:
                await self._gossip.forget(host)
                await self._gossip.rotate_key(gossip_key())
            except Unavailable as err:
                if self._clock.monotonic() > deadline:
                    log.warning("gossip key not changed", extra={"removed": host, "reason": err.message})
                    return
                await self._clock.sleep(RETRY_S)
            else:
                log.info("gossip key changed", extra={"removed": host})
                return

    async def leave(self) -> None:
        """Say goodbye to it."""
        await self._gossip.leave()

    def _seeds(self) -> list[str]:
        """Gossip addresses of everybody known, and those of the configuration."""
        me = self._member()
        known = [one.rpartition(":")[0] for one in me.peers]
        configured = [one if ":" not in one else one.rpartition(":")[0] for one in self._home.config().cluster.seeds]
        others = (one for one in dict.fromkeys((*known, *configured)) if one != me.address)
        return [f"{one}:{me.port + GOSSIP_PORT}" for one in others]
