"""A cluster that lost most of its voters for good goes on with one host: when it may, and what it keeps. Pure.

Nothing of before may count any more: the epoch leaps, all other hosts are out with their certificates revoked, nobody
leads, and heartbeats are signed with another key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from morgand.cluster import codec, keys
from morgand.cluster.codec import ElectionRecord, HostRecord
from morgand.cluster.view import view_of_values
from morgand.cluster.voters import VoterRecord
from morgand.membership.registry import Objection, RegisteredMember, revocations
from morgand.state.hosts import HostState
from morgand.state.roles import Assignment

EPOCH_LEAP = 1000  # more epochs than can have begun since this host last heard of one
PASSING = (
    keys.ELECTION, keys.INVITATIONS, keys.STATUS, keys.FAILURES, keys.LEASES,
    keys.PATRONI_LEADER, keys.PATRONI_FAILOVER, keys.PATRONI_MEMBERS, keys.TAKEOVER,
    keys.PATRONI_SYNC,  # it lets nobody take over but hosts that may be gone
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Survivor:
    """The host that goes on, as it is to be written down."""

    member: RegisteredMember
    voter: VoterRecord


def objection(answers: Mapping[str, bool], *, voters: int, mine: bool) -> Objection | None:
    """Why nothing is lost for good, or None.

    ``answers``: of the other voters whose etcd answered, by name, whether it knows a leader. ``mine``: whether this
    host's own etcd could vote, one of ``voters``.
    """
    who = sorted(answers)
    if any(answers.values()):
        return Objection(
            f"The cluster has its quorum: {' and '.join(who)} can decide.", "Start this host: `morgand start`."
        )
    if (len(who) + mine) * 2 > voters:
        together = " and ".join((["this host"] if mine else []) + who)
        return Objection(
            f"The quorum is not lost: {together} can decide, with {len(who) + mine} of {voters} voters.",
            "Start this host: `morgand start`.",
        )
    return None


def others(items: Mapping[str, bytes], me: str) -> dict[str, HostRecord]:
    """The hosts that are given up, by id."""
    found = view_of_values(items).hosts.values()
    return {one.id: one for one in sorted(found, key=lambda one: one.name) if one.id != me}


def assigned(items: Mapping[str, bytes]) -> Sequence[Assignment]:
    return view_of_values(items).assignments


def voters(items: Mapping[str, bytes]) -> Sequence[VoterRecord]:
    """Those that vote; learners do not."""
    return view_of_values(items).voting


def recovered(items: Mapping[str, bytes], survivor: Survivor, beat_key: str) -> dict[str, bytes]:
    """What the cluster begins with. Done twice, it is of one host in a yet later epoch."""
    me = survivor.member.id
    kept = {key: value for key, value in items.items() if _lasts(key, me)}
    epoch = _epoch(items) + EPOCH_LEAP
    for own in assigned(kept):  # what an engine stored may be of a later epoch than this host ever heard of
        kept[keys.assignment(*own.slot)] = codec.encode(replace(own, epoch=epoch))
    kept |= {
        keys.EPOCH: codec.encode(epoch),
        keys.BEATS: codec.encode(beat_key),
        keys.member(me): codec.encode(survivor.member),
        keys.voter(me): codec.encode(survivor.voter),
    }
    if (record := view_of_values(kept).hosts.get(me)) is not None:
        kept[keys.host(me)] = codec.encode(replace(record, state=HostState.ALIVE, draining=False))
    for key, value in items.items():
        if key.startswith(keys.MEMBERS):
            before = codec.decode(RegisteredMember, value, key=key)
            kept |= {put.key: put.value for put in revocations(before)}
    return kept


def _lasts(key: str, me: str) -> bool:
    return not key.startswith(PASSING) and not keys.of_another(key, me)


def outdated(items: Mapping[str, bytes], copy: Mapping[str, bytes]) -> bool:
    """Whether ``items`` are from before ``copy``: from the etcd of a host that had ceased to vote."""
    return _epoch(items) < _epoch(copy)


def _epoch(items: Mapping[str, bytes]) -> int:
    if keys.EPOCH in items:
        return codec.decode(int, items[keys.EPOCH], key=keys.EPOCH)
    return codec.decode(ElectionRecord, items[keys.ELECTION], key=keys.ELECTION).epoch if keys.ELECTION in items else 0
