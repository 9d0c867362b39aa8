"""The members: who was let in, on which machine, with which certificates. Whether a newcomer may be, and out again.

``/hosts/ID`` is what a host says of itself; ``/members/ID`` is what was settled when it joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from morgand.base.errors import StoreConflict
from morgand.cluster import codec, keys
from morgand.cluster.store import ClusterStore, Compare, Put, Unchanged
from morgand.state.hosts import HostState

ATTEMPTS = 5
THERE = (HostState.ALIVE, HostState.SUSPECT)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate; ``serial`` hexadecimal."""

    serial: str
    expires: datetime


@dataclass(frozen=True, slots=True)
class RegisteredMember:
    """``machine`` is a digest of the one it joined on."""

    id: str
    name: str
    machine: str
    joined: datetime
    certificates: tuple[Issued, ...] = ()


@dataclass(frozen=True, slots=True)
class Objection:
    reason: str
    remedy: str


def objection(
    newcomer: RegisteredMember, members: Iterable[RegisteredMember], hosts: Iterable[codec.HostRecord]
) -> Objection | None:
    """Why this host cannot be let in, or None.

    A member that is away may join anew, on whatever machine its data directory is by now: it is the same host.
    """
    records = {one.id: one for one in hosts}
    names = {one.id: one.name for one in records.values()} | {one.id: one.name for one in members}
    if newcomer.id in records and records[newcomer.id].state in THERE:
        return Objection(
            f"This host's identity is that of {names[newcomer.id]}, which is there: the data directory was copied.",
            "Delete host.json in this host's data directory to make a new host of it, and join again; or stop "
            f"{names[newcomer.id]} for good, and join again with what is here.",
        )
    if any(name == newcomer.name and host != newcomer.id for host, name in names.items()):
        return Objection(
            f"There is a host named {newcomer.name} already.",
            "Join with another name: --set host.name=NAME. If the other is gone for good: `morganctl hosts remove "
            f"{newcomer.name}`.",
        )
    return None


def revocations(member: RegisteredMember) -> list[Put]:
    """What is written so that nobody goes on with the certificates that it has."""
    return [
        Put(keys.revoked(one.serial), codec.encode({"host": member.id, "expires": one.expires}))
        for one in member.certificates
    ]


def certified(member: RegisteredMember, issued: Issued, now: datetime) -> RegisteredMember:
    """The member with one more certificate; those that have expired need no revoking and are forgotten."""
    return replace(member, certificates=(*(one for one in member.certificates if one.expires > now), issued))


async def members(store: ClusterStore) -> list[RegisteredMember]:
    items, _ = await store.list(keys.MEMBERS)
    return [codec.decode(RegisteredMember, item.value, key=item.key) for item in items]


async def enrol(store: ClusterStore, member: RegisteredMember) -> None:
    """Write a member unconditionally: the founder's own record."""
    await store.txn([], [Put(keys.member(member.id), codec.encode(member))])


async def expel(store: ClusterStore, host_id: str, beat_key: str) -> Sequence[str]:
    """Forget a member and revoke its certificates; their serials. Revocation lists are to be written anew after it.

    ``beat_key`` signs the others' heartbeats from now on: the one it knew is worth nothing.

    Raises Unavailable, StoreConflict.
    """
    key = keys.member(host_id)
    for _ in range(ATTEMPTS):
        item = await store.get(key)
        if item is None:
            return ()
        found = codec.decode(RegisteredMember, item.value, key=key)
        compares: list[Compare] = [Unchanged(key, item.mod_revision)]
        try:
            await store.txn(compares, [*revocations(found), Put(keys.BEATS, codec.encode(beat_key))], [key])
        except StoreConflict:
            continue  # it was renewing its certificate: that one is revoked too
        return [one.serial for one in found.certificates]
    raise StoreConflict(f"The record of host {host_id} changed {ATTEMPTS} times meanwhile.", remedy="Try again.")


async def revoked_serials(store: ClusterStore) -> list[str]:
    items, _ = await store.list(keys.REVOKED)
    return [item.key.removeprefix(keys.REVOKED) for item in items]
