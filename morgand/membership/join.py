"""``morgand join``: become a member. The key is made here and stays here; ``member.json`` is written last, so a host
that dies in between has simply not joined. What it stored while it was alone is set aside, never deleted."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from morgand import __version__
from morgand.base import files
from morgand.base.clock import Clock, SystemClock
from morgand.base.datadir import DataDir
from morgand.base.errors import ConfigError, Conflict, InvalidInput, StorageFull, Unavailable
from morgand.cluster import etcd_process, member_file
from morgand.cluster.member_file import MemberFile
from morgand.config import Config
from morgand.fingerprint.host_id import HostIdentity, Standing, bind
from morgand.fingerprint.machine import machine_digest
from morgand.membership import join_schema as wire
from morgand.membership.identity import Purpose, claim
from morgand.membership.join_client import Contact, JoinClient, JoinTarget, parse_target
from morgand.roles.catalog import STORES
from morgand.security import ca, tokens, trust
from morgand.security.tokens import Code, Token

FIND_S = 3.0
ASIDE = "before-join"
LONE = (*STORES, "cluster/store", "cluster/store.previous")  # what a host alone stores
BY_ADDRESS = "Give the address of a host of the cluster: `morgand join ADDRESS TOKEN`."


class NearbyHost(Protocol):
    """A host that announces itself on the local network."""

    @property
    def address(self) -> str: ...

    @property
    def port(self) -> int: ...


Find = Callable[[float], Awaitable[Sequence[NearbyHost]]]
Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Admission:
    """The member that will let this host in, the authority that is proven, and what proves the invitation."""

    target: JoinTarget
    ca_pem: bytes
    invitation: str
    secret: str


async def join(
    config: Config, address: str | None, token: str, *, say: Say, find: Find | None = None, clock: Clock | None = None
) -> None:
    """Join the cluster that ``token`` (or spoken code) invites to. Raises MorganError with reason and remedy."""
    given = tokens.read(token)
    clock = clock or SystemClock()
    with DataDir(config.data_dir, STORES) as data:
        found = await asyncio.to_thread(claim, data.root, Purpose.JOIN)
        identity, before = found.identity, found.member
        async with JoinClient(clock) as meeting:
            contact = _meant(await _contacts(meeting, config, address, find), given)
            if before is not None and await _belongs(meeting, contact, before, data.root / "cluster") and found.trusted:
                say(f"{config.host_name} is a member of cluster '{before.cluster_name}' already.")
                return
            sponsored = await _proven(meeting, contact, given)
            key = ca.make_key()
            host = wire.JoinHost(
                identity.id, machine_digest(), config.host_name,
                config.host.address or await asyncio.to_thread(_towards, sponsored.target), config.cluster.port,
                __version__, wire.PROTOCOL,
            )  # fmt: skip
            request = _request(sponsored, host, key, clock)
            reply = await meeting.join(sponsored.target, sponsored.ca_pem, request)
        member = MemberFile(
            reply.cluster, reply.cluster_name, host.id, host.address, host.port, reply.peers, reply.etcd
        )  # fmt: skip
        entry = partial(_enter, data.root, member, sponsored.ca_pem, reply, key)
        aside = await asyncio.to_thread(entry, new=found.new, votes=found.trusted)
    if found.standing is Standing.FOREIGN:
        say(f"It takes the place of the {config.host_name} that was: that one is refused from now on.")
    if aside is not None:
        say(f"What this host stored while it was not a member (conversations, documents, API keys) is kept in {aside}.")
    say(f"{config.host_name} has joined cluster '{member.cluster_name}'. Start it: `morgand start` (or `morgand run`).")


async def _contacts(client: JoinClient, config: Config, address: str | None, find: Find | None) -> list[Contact]:
    """Who answers: at the address that was given, else of the seeds in the configuration, else of who announces itself.

    Raises InvalidInput for what is no address, Unavailable when nobody answers.
    """
    if address is not None:
        return await client.contacts([parse_target(address, config.cluster.port)])
    without = ""
    if config.cluster.seeds:
        try:
            return await client.contacts([parse_target(one, config.cluster.port) for one in config.cluster.seeds])
        except Unavailable as err:
            without = f" None of cluster.seeds answers: {err.message}"
    if find is None:
        from morgand.gossip import discovery

        find = discovery.find
    found = await find(FIND_S)
    if not found:
        raise Unavailable(f"No cluster announces itself on the local network.{without}", remedy=BY_ADDRESS)
    return await client.contacts([JoinTarget(one.address, one.port) for one in found])


def _meant(contacts: Sequence[Contact], given: Token | Code) -> Contact:
    """The one to join through. Raises Conflict when none or more than one cluster may be meant."""
    if isinstance(given, Token):
        contact = next((one for one in contacts if one.digest == given.digest), None)
        if contact is None:
            who = ", ".join(str(one.target) for one in contacts)
            raise Conflict(f"{who} belongs to another cluster than the token.", remedy=BY_ADDRESS)
        return contact
    if len({one.digest for one in contacts}) > 1:
        who = ", ".join(str(one.target) for one in contacts)
        raise Conflict(
            f"More than one cluster announces itself: {who}.", remedy="Say which: `morgand join ADDRESS CODE`."
        )
    return contacts[0]


async def _belongs(meeting: JoinClient, contact: Contact, before: MemberFile, folder: Path) -> bool:
    """Whether this host is a member of the cluster it is invited to: one that was removed, or was away until its
    certificate ran out, joins anew. Raises Conflict for a member of another cluster."""
    try:
        own = ca.digest(await asyncio.to_thread(trust.read, folder / trust.CA))
    except (ConfigError, InvalidInput):
        return False  # its files are damaged: it can only join anew
    if own == contact.digest:
        return await meeting.still_member(contact.target, folder)
    raise Conflict(
        f"This host is a member of another cluster, '{before.cluster_name}'.",
        remedy="Remove it there (`morganctl hosts remove NAME`) and join with a data directory of its own: "
        "--set host.data_dir=DIRECTORY.",
    )


async def _proven(meeting: JoinClient, contact: Contact, given: Token | Code) -> Admission:
    if isinstance(given, Token):
        return Admission(contact.target, contact.ca_pem, given.invitation, given.secret)
    grant = await meeting.prove(contact, given)
    return Admission(contact.target, grant.ca.encode("ascii"), grant.invitation, grant.secret)


def _request(sponsored: Admission, host: wire.JoinHost, key: bytes, clock: Clock) -> wire.JoinRequest:
    csr = ca.make_request(key, host.id).decode("ascii")
    return wire.JoinRequest(sponsored.invitation, sponsored.secret, csr, host, clock.now().timestamp())


def _towards(target: JoinTarget) -> str:
    """The own address on the way to a member: the interface the cluster is reached by. Nothing is sent."""
    family, kind, _, _, where = socket.getaddrinfo(target.address, target.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(where)
        return str(probe.getsockname()[0])


def _enter(
    root: Path, member: MemberFile, ca_pem: bytes, reply: wire.JoinReply, key: bytes, *, new: bool, votes: bool
) -> Path | None:
    """Write the member's files; where the data of a ``new`` host is now, or None when there was none.

    ``votes``: what etcd stored here is the latest. Otherwise it must never be used again.
    """
    folder = root / "cluster"
    if not votes:
        etcd_process.wipe(folder)
    trust.install(
        folder, ca_pem=ca_pem, cert_pem=reply.certificate.encode("ascii"), key_pem=key
    )  # fmt: skip
    files.write_private(folder / trust.CRL, reply.crl.encode("ascii"))
    member_file.write_keyring(folder, reply.gossip_keys)
    trust.client_context(folder)  # what was received fits together
    bind(root, HostIdentity(member.host, member.cluster))
    aside, moved = _set_aside(root) if new else (None, [])
    try:
        member_file.write(folder, member)
    except StorageFull:
        _put_back(moved)
        raise
    return aside


def _set_aside(root: Path) -> tuple[Path | None, list[tuple[Path, Path]]]:
    """Move what a lone host stored; the folder it is in, and each (from, to). All or nothing; raises StorageFull."""
    held = [root / name for name in LONE if _holds(root / name)]
    if not held:
        return None, []
    number = 1
    while (aside := root / (ASIDE if number == 1 else f"{ASIDE}-{number}")).exists():
        number += 1
    moved: list[tuple[Path, Path]] = []
    try:
        for source in held:
            goal = aside / source.relative_to(root)
            goal.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            source.rename(goal)
            moved.append((source, goal))
    except OSError as err:
        _put_back(moved)
        raise StorageFull(
            f"{err.filename} cannot be set aside: {err.strerror}.", remedy=f"Move it out of {root} by hand, join again."
        ) from err
    return aside, moved


def _put_back(moved: Sequence[tuple[Path, Path]]) -> None:
    for source, goal in reversed(moved):
        goal.rename(source)


def _holds(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()
