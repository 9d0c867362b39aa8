"""A member's links to the other hosts: the store they share, gossip, the API of hosts, certificates.

Made once this host is a member; a lone host never loads what is needed for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from aiohttp import web

from morgand.api.http import make_runner
from morgand.api.schema import InvitationReply
from morgand.base.aio import Parts, in_order, persist, wait_within
from morgand.base.clock import Clock
from morgand.base.errors import Conflict, StorageFull, Unavailable
from morgand.cluster import keys, member_file
from morgand.cluster.copy import Copy
from morgand.cluster.etcd import Endpoint, EtcdClient
from morgand.cluster.etcd_store import EtcdStore
from morgand.cluster.etcd_succession import Succession
from morgand.cluster.local_etcd import LocalEtcd
from morgand.cluster.member_file import MemberFile
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import ClusterStore
from morgand.cluster.storefile import StoreFile
from morgand.cluster.switch import SwitchStore, set_aside
from morgand.detector.client import Heartbeats
from morgand.membership import registry
from morgand.membership.context import MembershipContext
from morgand.membership.credentials import Credentials
from morgand.membership.gossip import GossipPublisher
from morgand.membership.invitations import Invitations
from morgand.membership.join_material import JoinMaterial
from morgand.membership.join_server import JoinServer
from morgand.membership.lease import LeaseManager, fenced_hosts, new_key
from morgand.membership.programs import etcd_process, keeper, teller
from morgand.membership.revocation_check import RevocationCheck
from morgand.peers.client import PeerClient
from morgand.peers.directory import ClusterDirectory
from morgand.peers.server import PeerServer
from morgand.security import ca, tokens, trust
from morgand.state.hosts import HostState, Member

log = logging.getLogger("morgand.links")

RETRY_S = 0.5
CONNECT_S = 45.0


class MemberSession:
    """``run`` is a task; ``connected`` is set once the shared store is in use and others can reach this host."""

    def __init__(
        self, me: MemberFile, home: MembershipContext, *, store: SwitchStore, mirror: Mirror,
        directory: ClusterDirectory,
        clock: Clock,
    ) -> None:  # fmt: skip
        """Reads the credentials: raises ConfigError."""
        self.membership = me
        self._folder = home.folder
        self.connected = asyncio.Event()
        self._home, self._store, self._mirror, self._directory, self._clock = home, store, mirror, directory, clock
        self._credentials = Credentials(home.folder, self._me, store=store, mirror=mirror, clock=clock)
        self.peers = PeerClient(self._credentials.client, directory.address_of, clock, name_of=directory.name_of)
        self.etcd = EtcdClient(self.voters, self._credentials.client, name=me.host)
        process = etcd_process(me, home, clock)
        self._seat = LocalEtcd(store, self.etcd, process, clock, teller("etcd"))
        self._gossip = GossipPublisher(self._me, home, mirror, clock)
        self.beats = Heartbeats(home.run, keeper(home, clock), clock)
        self._succession = Succession(
            process, self.etcd, mirror, clock, sight=self.beats.sight, changed=self.beats.next,
            leased=lambda: self.beats.leased,
        )  # fmt: skip
        self.pulse = LeaseManager(self._me, self.beats, store=store, mirror=mirror, clock=clock)

    async def run(self) -> None:
        """Until cancelled. Raises Conflict when a port is taken, EngineError when a program is missing."""
        me = self.membership
        runner = make_runner(self._peer_api().app())
        await runner.setup()
        try:
            await web.TCPSite(runner, me.address, me.port, ssl_context=self._credentials.server).start()
            async with asyncio.TaskGroup() as group:
                parts = Parts(group)
                parts.needed("seat", self._seat.run)
                parts.needed("connect", self._connect)
                parts.needed("pulse", self._once_connected(self.pulse.run))
                parts.dispensable("gossip", self._gossip.run)
                parts.dispensable("succession", self._succession.run)
                parts.dispensable("fenced", self._drop_fenced)
                parts.dispensable("advertise", self._gossip.advertise)
                parts.dispensable("forget", self._gossip.forget_removed)
                parts.dispensable("tags", self._once_connected(self._gossip.keep_tags))
                parts.dispensable("remember", self._once_connected(self._remember))
                parts.dispensable("revocations", self._once_connected(self._credentials.heed_revocations))
                parts.dispensable("renewal", self._credentials.renewal().run)
                parts.dispensable("expulsion", RevocationCheck(self._folder, self._doubtful, self._clock).run)
                parts.dispensable("copy", Copy(self._mirror, self._folder, self._clock).run)
        except OSError as err:
            raise Conflict(
                f"{me.api} cannot be used: {err.strerror}.", remedy="Set cluster.port to another one."
            ) from err
        finally:
            await in_order(runner.cleanup, self.peers.close, *(() if self.connected.is_set() else (self.etcd.close,)))

    def _me(self) -> MemberFile:
        return self.membership

    def members(self) -> Mapping[str, Member]:
        return self._gossip.members()

    async def invite(self) -> InvitationReply:
        """Raises Unavailable while there is no quorum."""
        if not await wait_within(self.connected, CONNECT_S):
            raise Unavailable("The cluster's store cannot be reached.", remedy="See `morganctl status`.")
        made, secret, code = await Invitations(self._store, self._clock).make()
        ca_pem = await asyncio.to_thread((self._folder / trust.CA).read_bytes)
        token = tokens.write(tokens.Token(ca.digest(ca_pem), made.id, secret))
        where = self.membership.api
        return InvitationReply(token, code, where, f"morgand join {where} {token}", made.expires)

    async def revoke(self, host: str) -> None:
        """A host that was removed: refused from now on, and what it knew is changed."""
        await registry.expel(self._store, host, new_key())
        await self.peers.abort(host)
        self._gossip.forget(host)

    async def goodbye(self) -> None:
        await self._gossip.leave()

    async def _connect(self) -> None:
        """Go over to the shared store: the founder with what it has, a joiner with nothing."""
        target: ClusterStore = EtcdStore(self.etcd)
        founder = await asyncio.to_thread(StoreFile(self._folder).exists)
        go_over = partial(self._store.move if founder else self._store.adopt, target)
        await persist(go_over, log, "not connected yet", Unavailable, clock=self._clock, pause_s=RETRY_S)
        if founder:
            await asyncio.to_thread(set_aside, self._folder)
        self.connected.set()
        log.info("connected", extra={"cluster": self.membership.cluster, "founder": founder})

    def _doubtful(self) -> list[str]:
        """APIs of hosts that are not known to be well; everybody's while nothing is known."""
        if self._mirror.current and self.connected.is_set():
            known = self._directory.hosts().values()
            found = [one.peer for one in known if one.state is not HostState.ALIVE and one.peer]
        else:
            found = list(self.membership.peers)
        return [one for one in found if one != self.membership.api]

    def _once_connected(self, run: Callable[[], Awaitable[None]]) -> Callable[[], Coroutine[Any, Any, None]]:
        async def run_then() -> None:
            await self.connected.wait()
            await run()

        return run_then

    async def _drop_fenced(self) -> None:
        """Whoever is given up is not waited for: connections to it end at once."""
        dropped: set[str] = set()
        while True:
            changed = self._mirror.next()
            fenced = fenced_hosts(self._directory.hosts()) - {self.membership.host}
            for host in fenced - dropped:
                await self.peers.abort(host)
            dropped = fenced
            await changed.wait()

    def voters(self) -> list[Endpoint]:
        """Where etcd is: as the store says, or as it said last."""
        found = [Endpoint(one.client_url, one.host) for one in self._mirror.view.voting]
        if found:
            return found
        return [Endpoint(url, "peer") for url in self.membership.etcd]

    def _peer_api(self) -> PeerServer:
        sponsor = JoinMaterial(self._folder, self._me, self._credentials.authority)
        return PeerServer(
            self._home.exports, name=self._home.name, held=self._directory.held, acting=self._directory,
            member=self._is_present, spool=self._home.spool,
            open_routes=JoinServer(sponsor, self._store, self._clock).routes(),
        )  # fmt: skip

    def _is_present(self, host: str) -> bool:
        return self._mirror.get(keys.member(host)) is not None

    async def _remember(self) -> None:
        """Write down where others are, for a start when nobody has told yet; let gossip know who is new.

        What a full disk does not take is written later.
        """
        written = self.membership
        while True:
            changed = self._mirror.next()
            peers = tuple(sorted(one.peer for one in self._directory.hosts().values() if one.peer))
            urls = tuple(sorted(one.url for one in self.voters()))
            if peers and (peers, urls) != (self.membership.peers, self.membership.etcd):
                self.membership = replace(self.membership, peers=peers, etcd=urls)
                await self._gossip.meet()
            if written != self.membership:
                found = self.membership
                with contextlib.suppress(StorageFull):
                    await asyncio.to_thread(member_file.write, self._folder, found)
                    written = found
            await changed.wait()
