"""What ties this host to the others: the store they share, gossip, the API of hosts, certificates.

A lone host has none of it; the first invitation founds the cluster while the assistant goes on. A host that has joined
finds its credentials in ``DATA_DIR/cluster`` and begins with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from morgand.api.http import make_runner
from morgand.api.invitations import Invitations
from morgand.api.join import Join
from morgand.api.peer import Export, PeerApi
from morgand.api.schema import InvitationReply
from morgand.clock import Clock
from morgand.cluster import codec, keys, membership, roster
from morgand.cluster.bootstrap import EtcdProcess, VoterPlace
from morgand.cluster.etcd import Endpoint, EtcdClient
from morgand.cluster.etcd_store import EtcdStore
from morgand.cluster.membership import Membership
from morgand.cluster.mirror import Mirror
from morgand.cluster.seat import OwnSeat
from morgand.cluster.store import ClusterStore
from morgand.cluster.switch import SwitchStore, set_aside
from morgand.cluster.voter_keeper import VoterKeeper
from morgand.cluster.voters import Candidate, VoterRecord, VoterState
from morgand.config import Config
from morgand.directory import ClusterDirectory
from morgand.errors import Conflict, StorageFull, Unavailable
from morgand.founding import Self, found, gossip_key
from morgand.gossip import membership as gossip
from morgand.gossip import tags
from morgand.gossip.agent import Place
from morgand.gossip.discovery import advertised
from morgand.leader import Duty
from morgand.peers.client import PeerClient
from morgand.renewal import Renewal
from morgand.security import ca, tokens, trust
from morgand.security.ca import Authority
from morgand.state import Member, Profile, RoleState
from morgand.supervisor import Child, ChildSpec

log = logging.getLogger("morgand.fabric")

FOUNDING_S = 45.0
RETRY_S = 0.5
ETCD = (sys.executable, "-m", "morgand.launch", "etcd")
GOSSIP_PORT = 1  # after the host's first port


class Fabric:
    """``run`` is a task of the daemon; the rest may be asked at any time."""

    def __init__(
        self, me: Self, *, config: Callable[[], Config], store: SwitchStore, mirror: Mirror,
        directory: ClusterDirectory, profile: Callable[[], Profile], exports: Mapping[str, Export],
        candidates: Callable[[], Sequence[Candidate]], clock: Clock,
    ) -> None:  # fmt: skip
        self._me, self._config, self._store, self._mirror, self._directory = me, config, store, mirror, directory
        self._profile, self._exports, self._candidates, self._clock = profile, exports, candidates, clock
        self._membership = membership.read(me.folder)
        self._is_member = asyncio.Event()
        if self._membership is not None:
            self._is_member.set()
        self._connected = asyncio.Event()  # the shared store is in use, and others can reach this host
        self._founding = asyncio.Lock()
        self._peers: PeerClient | None = None
        self._etcd: EtcdClient | None = None
        self._gossip: gossip.Membership | None = None
        self._contexts: list[ssl.SSLContext] = []

    # --- for the daemon --------------------------------------------------------------------------

    @property
    def alone(self) -> bool:
        return self._membership is None

    @property
    def cluster_id(self) -> str:
        return self._membership.cluster if self._membership else self._me.identity.cluster_id

    @property
    def peer_address(self) -> str:
        """Address and port of this host's API for hosts; empty while it is alone."""
        found = self._membership
        return f"{found.address}:{found.port}" if found else ""

    def client(self) -> PeerClient | None:
        return self._peers

    def members(self) -> Mapping[str, Member]:
        return self._gossip.members() if self._gossip else {}

    async def ready(self) -> None:
        """Wait until the store can be used: at once on a lone host."""
        if self._membership is not None:
            await self._connected.wait()

    async def alive(self, host: str) -> bool:
        return self._peers is not None and await self._peers.alive(host)

    def duties(self) -> tuple[Duty, ...]:
        """What the leader does besides planning."""
        if self._etcd is None:
            return ()
        return (VoterKeeper(self._store, self._etcd, self._clock, self._candidates).run,)

    async def run(self) -> None:
        """Nothing until this host is a member; then everything, until cancelled."""
        await self._is_member.wait()
        me = self._membership
        assert me is not None
        client_tls = await asyncio.to_thread(trust.client_context, self._me.folder)
        server_tls = await asyncio.to_thread(trust.server_context, self._me.folder, require_cert=False)
        self._contexts = [client_tls, server_tls]
        self._peers = PeerClient(client_tls, self._directory.address_of, self._clock)
        self._etcd = EtcdClient(self._voters, client_tls, name=me.host)
        process = self._process(VoterPlace(me.host, me.address, me.port, me.cluster, self._me.folder))
        place = Place(me.host, me.address, me.port + GOSSIP_PORT, self._me.folder)
        self._gossip = gossip.Membership(place, self._keep, self._seeds, self._clock)
        runner = make_runner(self._peer_api().app())
        await runner.setup()
        try:
            await web.TCPSite(runner, me.address, me.port, ssl_context=server_tls).start()
            async with asyncio.TaskGroup() as group:
                group.create_task(OwnSeat(self._store, self._etcd, process, self._clock, _say("etcd")).run())
                group.create_task(self._gossip.run(), name="gossip")
                group.create_task(self._connect(self._etcd), name="connect")
                group.create_task(self._advertise(me))
                group.create_task(self._keep_tags())
                group.create_task(self._remember())
                group.create_task(self._heed_revocations())
                group.create_task(self._renewal(me).run())
        except OSError as err:
            raise Conflict(
                f"{me.address}:{me.port} cannot be used: {err.strerror}.", remedy="Set cluster.port to another one."
            ) from err
        finally:
            await runner.cleanup()
            await self._peers.close()

    async def invite(self) -> InvitationReply:
        """See ``api.backend.Members``. Raises EngineError, Conflict, Unavailable."""
        async with self._founding:
            if self._membership is None:
                self._membership = await found(
                    self._me,
                    store=self._store,
                    config=self._config(),
                    profile=self._profile(),
                    clock=self._clock,
                    etcd=self._process,
                )
                self._is_member.set()
            async with asyncio.timeout(FOUNDING_S):
                await self._connected.wait()
        made, secret, code = await Invitations(self._store, self._clock).make()
        ca_pem = await asyncio.to_thread((self._me.folder / trust.CA).read_bytes)
        token = tokens.write(tokens.Token(ca.digest(ca_pem), made.id, secret))
        where = self.peer_address
        return InvitationReply(token, code, where, f"morgand join {where} {token}", made.expires)

    async def revoke(self, host: str) -> None:
        """A host that was removed: refused from now on, and what it knew is changed."""
        if self._gossip is None:
            return
        await roster.expel(self._store, host)
        if self._peers is not None:
            await self._peers.abort(host)
        with contextlib.suppress(Unavailable):  # gossip is a hint: the certificate is what counts
            await self._gossip.forget(host)
            await self._gossip.rotate_key(gossip_key())

    async def goodbye(self) -> None:
        if self._gossip is not None:
            await self._gossip.leave()

    # --- connecting ------------------------------------------------------------------------------

    def _process(self, place: VoterPlace) -> EtcdProcess:
        return EtcdProcess(place, self._keep, trust.client_context(self._me.folder), program=ETCD)

    async def _connect(self, client: EtcdClient) -> None:
        """Go over to the shared store: the founder with what it has, a joiner with nothing."""
        target: ClusterStore = EtcdStore(client)
        founder = await asyncio.to_thread((self._me.folder / "store").exists)
        while True:
            try:
                await (self._store.move(target) if founder else self._store.adopt(target))
                break
            except Unavailable as err:
                log.debug("not connected yet", extra={"reason": err.message})
                await self._clock.sleep(RETRY_S)
        if founder:
            await asyncio.to_thread(set_aside, self._me.folder)
        self._connected.set()
        log.info("connected", extra={"cluster": self.cluster_id, "founder": founder})

    def _voters(self) -> list[Endpoint]:
        """Where etcd is: as the store says, or as it said last."""
        records = [codec.decode(VoterRecord, item.value, key=item.key) for item in self._mirror.list(keys.VOTERS)]
        found = [Endpoint(one.client_url, one.host) for one in records if one.state is VoterState.VOTER]
        if found:
            return found
        assert self._membership is not None
        return [Endpoint(url, "peer") for url in self._membership.etcd]

    def _peer_api(self) -> PeerApi:
        return PeerApi(
            self._exports, held=self._directory.held, member=self._is_present, spool=self._me.spool,
            open_routes=Join(Sponsor(self), self._store, self._clock).routes(),
        )  # fmt: skip

    def _is_present(self, host: str) -> bool:
        return self._mirror.get(keys.member(host)) is not None

    # --- upkeep ----------------------------------------------------------------------------------

    async def _keep(self, name: str, argv: tuple[str, ...], probe: gossip.Probe, report: gossip.Report) -> None:
        spec = ChildSpec(name, argv, {}, self._me.logs / f"{name}.log", start_deadline_s=60.0)
        await Child(spec, probe, self._clock).run(report)

    def _seeds(self) -> list[str]:
        """Gossip addresses of everybody known, and those of the configuration."""
        assert self._membership is not None
        port = self._membership.port + GOSSIP_PORT
        known = [one.rpartition(":")[0] for one in self._membership.peers]
        configured = [one if ":" not in one else one.rpartition(":")[0] for one in self._config().cluster.seeds]
        return [f"{one}:{port}" for one in dict.fromkeys((*known, *configured)) if one != self._membership.address]

    async def _advertise(self, me: Membership) -> None:
        async with advertised(me.cluster, self._me.name, me.host, me.address, me.port):
            await asyncio.Event().wait()

    async def _keep_tags(self) -> None:
        await self._connected.wait()
        told: dict[str, str] = {}
        while True:
            changed = self._mirror.next()
            voter = self._mirror.get(keys.voter(self._me.identity.id)) is not None
            said = tags.encode(self._profile(), name=self._me.name, version="", peer=self.peer_address, voter=voter)
            if said != told and self._gossip is not None:
                await self._gossip.set_tags(said)
                told = said
            await changed.wait()

    async def _remember(self) -> None:
        """Write down where others are, for a start when nobody has told yet; let gossip know who is new."""
        await self._connected.wait()
        while True:
            changed = self._mirror.next()
            assert self._membership is not None
            peers = tuple(sorted(one.peer for one in self._directory.hosts().values() if one.peer))
            urls = tuple(sorted(one.url for one in self._voters()))
            if peers and (peers, urls) != (self._membership.peers, self._membership.etcd):
                self._membership = replace(self._membership, peers=peers, etcd=urls)
                await asyncio.to_thread(
                    trust.write_private, self._me.folder / membership.FILE, membership.encode(self._membership)
                )
                if self._gossip is not None:
                    await self._gossip.join(self._seeds())
            await changed.wait()

    async def _heed_revocations(self) -> None:
        """The list of certificates that are no longer good: for etcd, which reads the file, and for us."""
        await self._connected.wait()
        written: list[str] | None = None
        while True:
            changed = self._mirror.next()
            listed = [item.key.removeprefix(keys.REVOKED) for item in self._mirror.list(keys.REVOKED)]
            if listed != written:
                with contextlib.suppress(Unavailable, StorageFull):
                    await self._write_revoked(listed)
                    written = listed
            await changed.wait()

    async def _write_revoked(self, serials: Sequence[str]) -> None:
        crl = ca.revocation_list(await self.authority(), serials, self._clock.now())
        await asyncio.to_thread(trust.write_private, self._me.folder / trust.CRL, crl)
        self._reload()

    def _renewal(self, me: Membership) -> Renewal:
        return Renewal(
            self._me.folder, address=lambda: me.address, peers=lambda: self.membership.peers, clock=self._clock,
            renewed=self._reload,
        )  # fmt: skip

    def _reload(self) -> None:
        for context in self._contexts:
            trust.reload(context, self._me.folder)

    async def authority(self) -> Authority:
        """Raises Unavailable."""
        item = await self._store.get(keys.AUTHORITY)
        if item is None:
            raise Unavailable("The cluster's authority is not known here.")
        return codec.decode(Authority, item.value, key=item.key)

    @property
    def membership(self) -> Membership:
        assert self._membership is not None
        return self._membership

    @property
    def folder(self) -> Path:
        return self._me.folder


class Sponsor:
    """Implements ``api.join.Sponsor``: what a newcomer is given."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    @property
    def cluster_id(self) -> str:
        return self._fabric.cluster_id

    @property
    def cluster_name(self) -> str:
        return self._fabric.membership.cluster_name

    @property
    def ca_pem(self) -> bytes:
        return (self._fabric.folder / trust.CA).read_bytes()

    async def authority(self) -> Authority:
        return await self._fabric.authority()

    def gossip_keys(self) -> Sequence[str]:
        keys_found: list[str] = json.loads((self._fabric.folder / membership.KEYRING).read_text())
        return keys_found

    def peers(self) -> Sequence[str]:
        return self._fabric.membership.peers

    def etcd(self) -> Sequence[str]:
        return self._fabric.membership.etcd


def _say(name: str) -> gossip.Report:
    def say(state: RoleState, detail: str | None) -> None:
        if detail:
            log.warning("program", extra={"program": name, "state": state.value, "reason": detail})

    return say
