"""A member's links to the other hosts: the store they share, gossip, the API of hosts, certificates.

Made once this host is a member; a lone host never loads what is needed for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from aiohttp import web

from morgand import __version__
from morgand.api.http import make_runner
from morgand.api.invitations import Invitations
from morgand.api.join import Join
from morgand.api.peer import PeerApi
from morgand.api.schema import InvitationReply
from morgand.clock import Clock
from morgand.cluster import codec, keys, membership, roster
from morgand.cluster.bootstrap import EtcdProcess, VoterPlace
from morgand.cluster.copy import Copy
from morgand.cluster.etcd import Endpoint, EtcdClient
from morgand.cluster.etcd_store import EtcdStore
from morgand.cluster.membership import Membership
from morgand.cluster.mirror import Mirror
from morgand.cluster.seat import OwnSeat
from morgand.cluster.store import ClusterStore
from morgand.cluster.storefile import StoreFile
from morgand.cluster.switch import SwitchStore, set_aside
from morgand.cluster.voter_keeper import VoterKeeper
from morgand.cluster.voters import VoterRecord, VoterState
from morgand.detector.client import Heartbeats
from morgand.directory import ClusterDirectory
from morgand.errors import Conflict, StorageFull, Unavailable
from morgand.expulsion import Expulsion
from morgand.founding import gossip_key
from morgand.gossip import membership as gossip
from morgand.gossip import tags
from morgand.gossip.agent import Place
from morgand.gossip.discovery import advertised
from morgand.heartbeat import Pulse, ensure_key, fenced_hosts, new_key
from morgand.home import Home
from morgand.leader import Duty
from morgand.peers.client import PeerClient
from morgand.primary import PrimaryKeeper, ensure_secrets
from morgand.renewal import Renewal
from morgand.security import ca, tokens, trust
from morgand.security.ca import Authority
from morgand.state import HostState, Member, RolePreference, RoleState
from morgand.supervisor import Child, ChildSpec

log = logging.getLogger("morgand.links")

RETRY_S = 0.5
CONNECT_S = 45.0
ROTATE_S = 30.0  # a host that was removed takes a moment to be gone from gossip
ETCD = (sys.executable, "-m", "morgand.launch", "etcd")
GOSSIP_PORT = 1  # after the host's first port


class Links:
    """``run`` is a task; ``connected`` is set once the shared store is in use and others can reach this host."""

    def __init__(
        self, me: Membership, home: Home, *, store: SwitchStore, mirror: Mirror, directory: ClusterDirectory,
        clock: Clock,
    ) -> None:  # fmt: skip
        """Reads the credentials: raises ConfigError."""
        self.membership = me
        self.folder = home.folder
        self.connected = asyncio.Event()
        self._home, self._store, self._mirror, self._directory, self._clock = home, store, mirror, directory, clock
        client = trust.client_context(home.folder)
        self._server = trust.server_context(home.folder, require_cert=False)
        self._contexts = [client, self._server]
        self.peers = PeerClient(client, directory.address_of, clock)
        self._etcd = EtcdClient(self.voters, client, name=me.host)
        self._seat = OwnSeat(store, self._etcd, etcd_process(me, home, clock), clock, _say("etcd"))
        place = Place(me.host, me.address, me.port + GOSSIP_PORT, home.folder)
        self._gossip = gossip.Membership(place, keeper(home, clock), self._seeds, clock)
        self.beats = Heartbeats(home.run, keeper(home, clock), clock)
        self.pulse = Pulse(lambda: self.membership, self.beats, store=store, mirror=mirror, clock=clock)

    async def run(self) -> None:
        """Until cancelled. Raises Conflict when a port is taken, EngineError when a program is missing."""
        me = self.membership
        runner = make_runner(self._peer_api().app())
        await runner.setup()
        try:
            await web.TCPSite(runner, me.address, me.port, ssl_context=self._server).start()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._seat.run(), name="seat")
                group.create_task(self._gossip.run(), name="gossip")
                group.create_task(self._connect(), name="connect")
                group.create_task(self._pulse(), name="pulse")
                group.create_task(self._drop_fenced(), name="fenced")
                group.create_task(self._advertise(), name="advertise")
                group.create_task(self._keep_tags(), name="tags")
                group.create_task(self._remember(), name="remember")
                group.create_task(self._heed_revocations(), name="revocations")
                group.create_task(self._renewal().run(), name="renewal")
                group.create_task(Expulsion(self.folder, self._doubtful, self._clock).run(), name="expulsion")
                group.create_task(Copy(self._mirror, self.folder, self._clock).run(), name="copy")
        except OSError as err:
            raise Conflict(
                f"{me.address}:{me.port} cannot be used: {err.strerror}.", remedy="Set cluster.port to another one."
            ) from err
        finally:
            await runner.cleanup()
            await self.peers.close()

    @property
    def _address(self) -> str:
        return f"{self.membership.address}:{self.membership.port}"

    def members(self) -> Mapping[str, Member]:
        return self._gossip.members()

    def duties(self) -> tuple[Duty, ...]:
        """What the leader does besides planning."""
        keeping = VoterKeeper(self._store, self._etcd, self._clock, self._home.candidates)
        primary = PrimaryKeeper(
            self._store, self._mirror, self._clock, hosts=lambda: [one.host for one in self._home.candidates()],
            preference=lambda: self._home.config().preferences().get("db", RolePreference()),
        )  # fmt: skip
        return (
            keeping.run, primary.run, lambda held: ensure_key(self._store, held),
            lambda held: ensure_secrets(self._store, held),
        )  # fmt: skip

    async def invite(self) -> InvitationReply:
        """Raises Unavailable while there is no quorum."""
        try:
            async with asyncio.timeout(CONNECT_S):
                await self.connected.wait()
        except TimeoutError:
            raise Unavailable("The cluster's store cannot be reached.", remedy="See `morganctl status`.") from None
        made, secret, code = await Invitations(self._store, self._clock).make()
        ca_pem = await asyncio.to_thread((self.folder / trust.CA).read_bytes)
        token = tokens.write(tokens.Token(ca.digest(ca_pem), made.id, secret))
        where = self._address
        return InvitationReply(token, code, where, f"morgand join {where} {token}", made.expires)

    async def revoke(self, host: str) -> None:
        """A host that was removed: refused from now on, and what it knew is changed."""
        await roster.expel(self._store, host, new_key())
        await self.peers.abort(host)
        task = asyncio.create_task(self._forget(host), name=f"forget-{host}")
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    async def _forget(self, host: str) -> None:
        """Gossip is a hint, so nobody waits for this; that it did not work is told."""
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

    async def goodbye(self) -> None:
        await self._gossip.leave()

    async def _connect(self) -> None:
        """Go over to the shared store: the founder with what it has, a joiner with nothing."""
        target: ClusterStore = EtcdStore(self._etcd)
        founder = await asyncio.to_thread(StoreFile(self.folder).exists)
        while True:
            try:
                await (self._store.move(target) if founder else self._store.adopt(target))
                break
            except Unavailable as err:
                log.debug("not connected yet", extra={"reason": err.message})
                await self._clock.sleep(RETRY_S)
        if founder:
            await asyncio.to_thread(set_aside, self.folder)
        self.connected.set()
        log.info("connected", extra={"cluster": self.membership.cluster, "founder": founder})

    def _doubtful(self) -> list[str]:
        """APIs of hosts that are not known to be well; everybody's while nothing is known."""
        if self._mirror.current and self.connected.is_set():
            known = self._directory.hosts().values()
            found = [one.peer for one in known if one.state is not HostState.ALIVE and one.peer]
        else:
            found = list(self.membership.peers)
        return [one for one in found if one != self._address]

    async def _pulse(self) -> None:
        await self.connected.wait()
        await self.pulse.run()

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
        records = [codec.decode(VoterRecord, item.value, key=item.key) for item in self._mirror.list(keys.VOTERS)]
        found = [Endpoint(one.client_url, one.host) for one in records if one.state is VoterState.VOTER]
        if found:
            return found
        return [Endpoint(url, "peer") for url in self.membership.etcd]

    def _peer_api(self) -> PeerApi:
        return PeerApi(
            self._home.exports, held=self._directory.held, acting=self._directory, member=self._is_present,
            spool=self._home.spool, open_routes=Join(Sponsor(self), self._store, self._clock).routes(),
        )  # fmt: skip

    def _is_present(self, host: str) -> bool:
        return self._mirror.get(keys.member(host)) is not None

    # --- upkeep ----------------------------------------------------------------------------------

    def _seeds(self) -> list[str]:
        """Gossip addresses of everybody known, and those of the configuration."""
        port = self.membership.port + GOSSIP_PORT
        known = [one.rpartition(":")[0] for one in self.membership.peers]
        configured = [one if ":" not in one else one.rpartition(":")[0] for one in self._home.config().cluster.seeds]
        return [f"{one}:{port}" for one in dict.fromkeys((*known, *configured)) if one != self.membership.address]

    async def _advertise(self) -> None:
        me = self.membership
        async with advertised(me.cluster, self._home.name, me.host, me.address, me.port):
            await asyncio.Event().wait()

    async def _keep_tags(self) -> None:
        await self.connected.wait()
        told: dict[str, str] = {}
        while True:
            changed = self._mirror.next()
            voter = self._mirror.get(keys.voter(self.membership.host)) is not None
            said = tags.encode(
                self._home.profile(), name=self._home.name, version=__version__, peer=self._address, voter=voter
            )
            if said != told:
                await self._gossip.set_tags(said)
                told = said
            await changed.wait()

    async def _remember(self) -> None:
        """Write down where others are, for a start when nobody has told yet; let gossip know who is new."""
        await self.connected.wait()
        while True:
            changed = self._mirror.next()
            peers = tuple(sorted(one.peer for one in self._directory.hosts().values() if one.peer))
            urls = tuple(sorted(one.url for one in self.voters()))
            if peers and (peers, urls) != (self.membership.peers, self.membership.etcd):
                self.membership = replace(self.membership, peers=peers, etcd=urls)
                await asyncio.to_thread(
                    trust.write_private, self.folder / membership.FILE, membership.encode(self.membership)
                )
                await self._gossip.join(self._seeds())
            await changed.wait()

    async def _heed_revocations(self) -> None:
        """The list of certificates that are no longer good: for etcd, which reads the file, and for us."""
        await self.connected.wait()
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
        await asyncio.to_thread(trust.write_private, self.folder / trust.CRL, crl)
        self._reload()

    def _renewal(self) -> Renewal:
        return Renewal(
            self.folder, address=lambda: self.membership.address, peers=lambda: self.membership.peers,
            clock=self._clock, renewed=self._reload,
        )  # fmt: skip

    def _reload(self) -> None:
        for context in self._contexts:
            trust.reload(context, self.folder)

    async def authority(self) -> Authority:
        """Raises Unavailable."""
        item = await self._store.get(keys.AUTHORITY)
        if item is None:
            raise Unavailable("The cluster's authority is not known here.")
        return codec.decode(Authority, item.value, key=item.key)


class Sponsor:
    """Implements ``api.join.Sponsor``: what a newcomer is given."""

    def __init__(self, links: Links) -> None:
        self._links = links

    @property
    def cluster_id(self) -> str:
        return self._links.membership.cluster

    @property
    def cluster_name(self) -> str:
        return self._links.membership.cluster_name

    @property
    def ca_pem(self) -> bytes:
        return (self._links.folder / trust.CA).read_bytes()

    async def authority(self) -> Authority:
        return await self._links.authority()

    async def revoked(self) -> bytes:
        return await asyncio.to_thread(trust.read, self._links.folder / trust.CRL)

    def gossip_keys(self) -> Sequence[str]:
        keys_found: list[str] = json.loads((self._links.folder / membership.KEYRING).read_text())
        return keys_found

    def peers(self) -> Sequence[str]:
        return self._links.membership.peers

    def etcd(self) -> Sequence[str]:
        return self._links.membership.etcd


def keeper(home: Home, clock: Clock) -> gossip.Keep:
    """How programs of others are kept running here."""

    async def keep(name: str, argv: tuple[str, ...], probe: gossip.Probe, report: gossip.Report) -> None:
        spec = ChildSpec(name, argv, {}, home.logs / f"{name}.log", start_deadline_s=60.0)
        await Child(spec, probe, clock).run(report)

    return keep


def etcd_process(me: Membership, home: Home, clock: Clock) -> EtcdProcess:
    """This host's etcd, whether it is a voter or not."""
    place = VoterPlace(me.host, me.address, me.port, me.cluster, home.folder)
    return EtcdProcess(place, keeper(home, clock), trust.client_context(home.folder), program=ETCD)


def _say(name: str) -> gossip.Report:
    def say(state: RoleState, detail: str | None) -> None:
        if detail:
            log.warning("program", extra={"program": name, "state": state.value, "reason": detail})

    return say
