"""What a member says in the gossip, and whom it looks for there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence

from morgand import __version__
from morgand.base.clock import Clock
from morgand.base.errors import InvalidInput, Unavailable
from morgand.cluster import keys
from morgand.cluster.member_file import MemberFile
from morgand.cluster.mirror import Mirror
from morgand.gossip import membership as gossip
from morgand.gossip import tags
from morgand.gossip.agent import Place
from morgand.gossip.discovery import advertised
from morgand.membership.context import MembershipContext
from morgand.membership.create import gossip_key
from morgand.membership.join_client import parse_target
from morgand.membership.programs import keeper
from morgand.state.hosts import Member

log = logging.getLogger("morgand.gossiping")

GOSSIP_PORT = 1  # after the host's first port
RETRY_S = 0.5
ROTATE_S = 30.0  # a host that was removed takes a moment to be gone from gossip


class GossipPublisher:
    """``run``, ``advertise``, ``keep_tags`` and ``forget_removed`` are tasks. ``member`` is this host as it is now."""

    def __init__(self, member: Callable[[], MemberFile], home: MembershipContext, mirror: Mirror, clock: Clock) -> None:
        self._member, self._home, self._mirror, self._clock = member, home, mirror, clock
        self._removed: dict[str, None] = {}  # in their order
        self._removal = asyncio.Event()
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

    def forget(self, host: str) -> None:
        """A host was removed: soon it is gone from gossip, and what it knows of it is changed.

        Gossip is a hint, so nobody waits for this; that it did not work is told.
        """
        self._removed[host] = None
        self._removal.set()

    async def forget_removed(self) -> None:
        """A task: forget one host after the other."""
        while True:
            await self._removal.wait()
            self._removal.clear()
            while self._removed:
                await self._forget(next(iter(self._removed)))

    async def _forget(self, host: str) -> None:
        self._removed.pop(host)
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
        me, config = self._member(), self._home.config().cluster
        return seeds(me.api, me.peers, config.seeds, config.port)


def seeds(me: str, peers: Sequence[str], configured: Sequence[str], port: int) -> list[str]:
    """Where others gossip: beside their APIs for hosts, each on the ports of its own.

    ``configured`` may lack the port, which is ``port`` then; what is no address is left out, as who configured it was
    told when this host joined.
    """
    found = dict.fromkeys(peers)
    for one in configured:
        with contextlib.suppress(InvalidInput):
            found[str(parse_target(one, port))] = None
    found.pop(me, None)
    apis = (one.rpartition(":") for one in found)
    return [f"{address}:{int(api) + GOSSIP_PORT}" for address, _, api in apis]
