"""``morgand recover``: when most voters are lost for good, the cluster goes on with this host alone, by hand.

Its daemon is stopped. The truth is read from what this host has of it, everybody else is given up, and a new etcd is
prepared; it is filled at the next start, as a founder's is. A recovery that was cut off is done again.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from morgand.base import files
from morgand.base.clock import Clock, SystemClock
from morgand.base.datadir import DataDir
from morgand.base.errors import Conflict, MorganError, Unavailable
from morgand.cluster import codec, keys, member_file
from morgand.cluster.copy import copy_file
from morgand.cluster.etcd import Endpoint, EtcdClient
from morgand.cluster.etcd_process import EtcdProcess, VoterPlace
from morgand.cluster.member_file import MemberFile
from morgand.cluster.store import Item
from morgand.cluster.storefile import StoreContent, StoreFile
from morgand.cluster.voters import VoterRecord, VoterState
from morgand.config import Config
from morgand.fingerprint.host_id import HostIdentity, bind
from morgand.fingerprint.machine import machine_digest
from morgand.membership import recovery_plan, registry
from morgand.membership.create import gossip_key
from morgand.membership.identity import Purpose, claim
from morgand.membership.join_client import parse_target
from morgand.membership.lease import new_key
from morgand.membership.recovery_plan import Survivor
from morgand.membership.salvage import salvage
from morgand.roles.catalog import BY_NAME, STORES
from morgand.roles.db.patroni_keys import Patroni
from morgand.security import ca, trust
from morgand.security.ca import Authority

ETCD = (sys.executable, "-m", "morgand.process.die_with_parent", "etcd")
KEPT = "etcd.before-recovery"
ANSWER_S, TRIES = 2.0, 3
KEEP_OFF = (
    "Keep them off until then: where they do not reach this host, a majority of the old voters could go on as a second "
    "cluster, and the two can never be brought together again."
)

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class _Truth:
    """What this host has of the cluster's truth, and from where, in words. ``votes``: with a voter's etcd."""

    items: Mapping[str, bytes]
    source: str
    votes: bool = False


async def recover(config: Config, *, say: Say, confirmed: Callable[[], bool], clock: Clock | None = None) -> None:
    """Give up every other host and prepare this one to go on. Raises Conflict where that is not called for.

    ``confirmed`` is asked once, after ``say`` has told what is given up.
    """
    clock = clock or SystemClock()
    with DataDir(config.data_dir, STORES) as data:
        folder = data.root / "cluster"
        found = await asyncio.to_thread(claim, data.root, Purpose.RECOVER)
        me = found.member
        if me is None:
            raise Conflict("This host is no member of a cluster: there is nothing to recover.")
        place = VoterPlace(me.host, me.address, me.port, me.cluster, folder)
        truth = await _truth(place)
        if keys.member(me.host) not in truth.items:
            raise Conflict("This host was removed from its cluster.", remedy="Recover on another member.")
        await _permit(truth, me, folder, original=found.trusted)
        reached = await _reached(truth, me.host)
        for line in story(truth.items, truth.source, me, reached):
            say(line)
        if not confirmed():
            raise Conflict("Nothing was changed.")
        await asyncio.to_thread(_perform, truth.items, me, place, clock.now())
        await asyncio.to_thread(bind, data.root, HostIdentity(me.host, me.cluster))
    say(f"{config.host_name} goes on alone. Start it: `morgand start`. Invite others anew: `morganctl cluster invite`.")


def story(items: Mapping[str, bytes], source: str, me: MemberFile, reached: Sequence[str]) -> list[str]:
    """What is about to happen, in sentences. ``reached``: ids of hosts that are on.

    Raises Conflict for one of them that has what only it has stored: it is the one to go on with.
    """
    given_up = recovery_plan.others(items, me.host)
    lost: dict[str, list[str]] = {}
    for one in recovery_plan.assigned(items):
        if one.host in given_up and BY_NAME[one.role].binds(one.engine):
            lost.setdefault(given_up[one.host].name, []).append(one.role)
    for host in reached:
        if given_up[host].name in lost:
            name = given_up[host].name
            raise Conflict(
                f"{name} is on, and what is stored in {' and '.join(lost[name])} is on it alone.",
                remedy=f"Recover on {name}: `morgand stop`, `morgand recover`.",
            )
    names = ", ".join(one.name for one in given_up.values()) or "nobody"
    lines = [
        f"Cluster '{me.cluster_name}' goes on with this host alone, from {source}.",
        f"Given up for good: {names}. They are refused from now on and come back only by `morgand join`.",
        KEEP_OFF,
    ]
    lines += [f"Lost with {name}: what only it has stored ({', '.join(roles)})." for name, roles in lost.items()]
    ahead = _ahead(items, me.host)
    if ahead is not None:
        name = given_up[ahead].name if ahead in given_up else ahead
        lines.append(f"Lost with {name}: what the database stored after this host ceased to follow it.")
    return [*lines, "If the lost voters can be switched on again, do that instead: nothing is lost then."]


def _ahead(items: Mapping[str, bytes], me: str) -> str | None:
    """The host of the database's primary, when it went on without this host's copy."""
    patroni = Patroni({key: Item(key, value, 0, 0) for key, value in items.items()}, 0)
    return None if patroni.leader == me or me in patroni.synchronous else patroni.leader


async def _truth(place: VoterPlace) -> _Truth:
    """The latest there is: this host's etcd, a recovery that was cut off, the copy of a member that did not vote.

    Raises Unavailable when there is nothing, Conflict for what belongs to another cluster.
    """
    ca_pem = await asyncio.to_thread(trust.read, place.folder / trust.CA)
    why = ""
    try:
        found = await salvage(place, trust.client_context(place.folder), ETCD)
    except Unavailable as err:
        found, why = None, f", since its etcd is of no use ({err.message})"
    copied = {row[0]: row[1] for row in (await asyncio.to_thread(copy_file(place.folder).read)).rows}
    if found:
        items = {one.key: one.value for one in found}
        if not recovery_plan.outdated(items, copied):
            return _own(_Truth(items, "what its etcd had last", votes=True), ca_pem)
        why = ", which is later than what its etcd had"
    for file, words in ((StoreFile(place.folder), "what it had begun with"), (copy_file(place.folder), "its copy")):
        content = await asyncio.to_thread(file.read)
        if content.rows:
            at = await asyncio.to_thread(_written, file)
            return _own(_Truth({row[0]: row[1] for row in content.rows}, f"{words} of {at}{why}"), ca_pem)
    raise Unavailable(f"This host knows nothing of the cluster{why}.", remedy="Recover on another member.")


def _written(file: StoreFile) -> str:
    newest = file.path if file.path.exists() else file.previous
    return f"{datetime.fromtimestamp(newest.stat().st_mtime, UTC).astimezone():%d %b %H:%M:%S}"


def _own(truth: _Truth, ca_pem: bytes) -> _Truth:
    """Raises Conflict for the truth of another cluster, left here from before this host joined."""
    authority = _authority(truth.items)
    if authority is None or ca.digest(authority.cert_pem) != ca.digest(ca_pem):
        raise Conflict(
            "What this host has of a cluster is not of the one it belongs to.", remedy="Recover on another member."
        )
    return truth


def _authority(items: Mapping[str, bytes]) -> Authority | None:
    value = items.get(keys.AUTHORITY)
    return codec.decode(Authority, value, key=keys.AUTHORITY) if value is not None else None


async def _permit(truth: _Truth, me: MemberFile, folder: Path, *, original: bool) -> None:
    """Raises Conflict while the voters are not lost.

    ``original``: this is the directory that this host ran on last. Otherwise it may run elsewhere, and vote there.
    """
    voting = recovery_plan.voters(truth.items)
    names = {host: one.name for host, one in recovery_plan.others(truth.items, "").items()}
    client = EtcdClient(list, trust.client_context(folder), name=me.host)
    try:
        answers: dict[str, bool] = {}
        for _ in range(TRIES):
            for one in voting:
                if one.host != me.host or not original:
                    with contextlib.suppress(MorganError):
                        status = await client.status(Endpoint(one.client_url, one.host))
                        answers[names.get(one.host, one.host)] = bool(status.leader)
    finally:
        await client.close()
    votes = original and truth.votes and any(one.host == me.host for one in voting)
    found = recovery_plan.objection(answers, voters=len(voting), mine=votes)
    if found is not None:
        raise Conflict(found.reason, remedy=found.remedy)


async def _reached(truth: _Truth, me: str) -> list[str]:
    """Ids of the other hosts whose daemon listens."""

    async def listens(peer: str) -> bool:
        target = parse_target(peer, 0)
        try:
            async with asyncio.timeout(ANSWER_S):
                _, writer = await asyncio.open_connection(target.address, target.port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    known = {host: one.peer for host, one in recovery_plan.others(truth.items, me).items() if one.peer}
    found = await asyncio.gather(*(listens(peer) for peer in known.values()))
    return [host for host, on in zip(known, found, strict=True) if on]


def _perform(items: Mapping[str, bytes], me: MemberFile, place: VoterPlace, now: datetime) -> None:
    """Write everything; the new etcd's configuration last. Blocking. Raises StorageFull.

    Until then the old etcd's data are where they were: a host that dies in between has not recovered.
    """
    folder, authority = place.folder, _authority(items)
    assert authority is not None
    member, certificate = _certified(items, me, authority, trust.read(folder / trust.KEY), now)
    voter = VoterRecord(me.host, place.peer_url, place.client_url, VoterState.VOTER)
    kept = recovery_plan.recovered(items, Survivor(member, voter), new_key())
    StoreFile(folder).write(StoreContent(1, [(key, kept[key], 1, 1) for key in sorted(kept)]))
    serials = [key.removeprefix(keys.REVOKED) for key in kept if key.startswith(keys.REVOKED)]
    files.write_private(folder / trust.CRL, ca.revocation_list(authority, serials, now))
    files.write_private(folder / trust.CERT, certificate)
    member_file.write_keyring(folder, (gossip_key(),))
    alone = replace(me, peers=(f"{me.address}:{me.port}",), etcd=(place.client_url,))
    member_file.write(folder, alone)
    if (place.data / "member").exists():
        shutil.rmtree(folder / KEPT, ignore_errors=True)
        place.data.rename(folder / KEPT)
    process = EtcdProcess(place, _never_kept, trust.client_context(folder))
    process.prepare({me.host: place.peer_url}, existing=False, token=f"{me.cluster}-{uuid.uuid4().hex}")


def _certified(
    items: Mapping[str, bytes], me: MemberFile, authority: Authority, key: bytes, now: datetime
) -> tuple[registry.RegisteredMember, bytes]:
    """This host's record with a new certificate: the old one may have run out while nobody could renew it, and may be
    in use on the machine that this host was on before."""
    request = ca.make_request(key, me.host)
    certificate = ca.sign(
        authority, request, host_id=me.host, cluster_id=me.cluster, addresses=(me.address,), now=now
    )  # fmt: skip
    found = ca.facts(certificate)
    member = codec.decode(registry.RegisteredMember, items[keys.member(me.host)], key=keys.member(me.host))
    issued = registry.Issued(found.serial, found.not_after)
    return replace(member, machine=machine_digest(), certificates=(issued,)), certificate


async def _never_kept(*_: object) -> None:
    raise AssertionError("etcd is only prepared here")
