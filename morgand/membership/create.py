"""The first host of a cluster makes it: the authority, its own certificate, the gossip key, its seat among the voters.

Everything is written before ``member.json``: a host that has that file has all of it.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from morgand.base import files
from morgand.base.clock import Clock
from morgand.base.errors import Conflict
from morgand.cluster import codec, keys, member_file
from morgand.cluster.etcd_process import EtcdProcess, VoterPlace
from morgand.cluster.member_file import MemberFile
from morgand.cluster.store import ClusterStore, Put
from morgand.cluster.voters import VoterRecord, VoterState
from morgand.fingerprint.host_id import HostIdentity
from morgand.fingerprint.machine import machine_digest
from morgand.membership import registry
from morgand.membership.context import MembershipContext
from morgand.security import ca, trust
from morgand.security.ca import Authority
from morgand.state.hosts import Profile

log = logging.getLogger("morgand.founding")

KEY_BYTES = 32
PORTS = 6  # API of hosts, gossip, etcd's clients, etcd's peers, PostgreSQL, Patroni
PACKAGES = {"etcd": "etcd-server", "serf": "serf"}


async def found(
    identity: HostIdentity, home: MembershipContext, *, store: ClusterStore, clock: Clock,
    etcd: Callable[[MemberFile, MembershipContext, Clock], EtcdProcess],
) -> MemberFile:  # fmt: skip
    """Make a cluster of this host. Raises Conflict with the remedy, Unavailable, StorageFull."""
    profile, config, folder, now = home.profile(), home.config(), home.folder, clock.now()
    address, port = profile.network.address, config.cluster.port
    _check(profile)
    await asyncio.to_thread(_check_ports, address, port)
    place = VoterPlace(identity.id, address, port, identity.cluster_id, folder)
    peers, urls = (f"{address}:{port}",), (place.client_url,)
    member = MemberFile(identity.cluster_id, config.cluster.name, identity.id, address, port, peers, urls)
    authority, key = ca.make_authority(identity.cluster_id, now), ca.make_key()
    certificate = ca.sign(
        authority, ca.make_request(key, identity.id), host_id=identity.id, cluster_id=identity.cluster_id,
        addresses=(address,), now=now,
    )  # fmt: skip
    made = ca.facts(certificate)
    own = registry.RegisteredMember(
        identity.id, home.name, machine_digest(), now, (registry.Issued(made.serial, made.not_after),)
    )
    voter = VoterRecord(identity.id, place.peer_url, place.client_url, VoterState.VOTER)
    await store.txn(
        [],
        [
            Put(keys.AUTHORITY, codec.encode(authority)),
            Put(keys.member(identity.id), codec.encode(own)),
            Put(keys.voter(identity.id), codec.encode(voter)),
        ],
    )
    revoked = ca.revocation_list(authority, (), now)
    await asyncio.to_thread(_write, folder, authority, certificate, key, revoked)
    process = etcd(member, home, clock)
    await asyncio.to_thread(process.prepare, {identity.id: place.peer_url}, existing=False)
    await asyncio.to_thread(member_file.write, folder, member)
    log.info("cluster founded", extra={"cluster": member.cluster, "address": peers[0]})
    return member


def gossip_key() -> str:
    """A new key for Serf: 32 bytes, base64."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _check(profile: Profile) -> None:
    missing = [name for name in PACKAGES if not profile.has_engine(name)]
    if missing:
        packages = " ".join(PACKAGES[name] for name in missing)
        raise Conflict(
            f"{' and '.join(missing)} must be installed on the first host of a cluster.",
            remedy=f"Install: apt-get install {packages}; then invite again.",
        )


def _check_ports(address: str, first: int) -> None:
    """All its ports are free now: better to say so before anything is made."""
    for port in range(first, first + PORTS):
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as err:
                raise Conflict(
                    f"{address}:{port} cannot be used: {err.strerror}.",
                    remedy=f"Set cluster.port so that {PORTS} ports from it on are free, or host.address.",
                ) from err


def _write(folder: Path, authority: Authority, certificate: bytes, key: bytes, revoked: bytes) -> None:
    trust.install(folder, ca_pem=authority.cert_pem, cert_pem=certificate, key_pem=key)
    files.write_private(folder / trust.CRL, revoked)
    member_file.write_keyring(folder, (gossip_key(),))
