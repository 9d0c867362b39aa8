"""What is said while nothing can be decided: why, what works all the same, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

from morgand.state.hosts import Host, HostState, Member, MemberStatus, PeerHealth


class Reach(StrEnum):
    """What can be had of the database."""

    SERVED = "served"
    COPY = "copy"
    NOTHING = "nothing"


STILL = {
    Reach.SERVED: "The database answers: messages are stored as ever.",
    Reach.COPY: "Questions are answered from a copy of the database, which may be stale; messages are kept here and "
    "sent later.",
    Reach.NOTHING: "Conversations and documents cannot be read; messages are kept here and sent later.",
}


def as_seen(
    hosts: tuple[Host, ...], sights: Mapping[str, PeerHealth | None], members: Mapping[str, Member], me: str
) -> tuple[Host, ...]:
    """The hosts as last known, but suspect where this host does not hear them: the best there is without a quorum.

    Of whom the detector knows nothing, gossip is believed.
    """
    gossip = {host for host, member in members.items() if member.status is MemberStatus.ALIVE} | {me}

    def heard(host: str) -> bool:
        sight = sights.get(host)
        return host in gossip if sight is None else not sight.suspect

    return tuple(
        replace(one, state=HostState.SUSPECT) if one.state is HostState.ALIVE and not heard(one.id) else one
        for one in hosts
    )


def undecided(voters: tuple[Host, ...]) -> bool:
    """Whether so few voters are there that nothing can be decided; as long as none is known nobody can tell."""
    return bool(voters) and sum(one.state is HostState.ALIVE for one in voters) * 2 <= len(voters)


def told(voters: tuple[Host, ...], reach: Reach, holder: str | None) -> list[str]:
    """``holder``: the other host that `morgand recover` is for; None when it is this one."""
    away = [one for one in voters if one.state is not HostState.ALIVE]
    where = f"on {holder}" if holder else "on this host"
    names = " and ".join(one.display_name for one in away) or "the voters"
    gone = "it is" if len(away) == 1 else "they are"
    todo = (
        f"Switch {names} on, and all is well by itself. Only if {gone} gone for good: `morgand stop`, "
        f"`morgand recover`, `morgand start` {where}."
    )
    return [f"Nothing can be decided from here: {_why(away, len(voters))}", STILL[reach], todo]


def unconnected(voters: Sequence[str]) -> list[str]:
    """Of a host that was started and has not reached its cluster yet. ``voters``: where it knows them to be."""
    where = ", ".join(voters) or "no voter"
    return [
        f"This host has not reached its cluster since it was started: {where} does not answer.",
        "Until one does it can read nothing; messages are kept here and sent later.",
        "Switch the voters on. Only if they are gone for good: `morgand stop`, `morgand recover`, `morgand start`.",
    ]


def _why(away: list[Host], voters: int) -> str:
    named = " and ".join(f"{one.display_name} ({one.address})" for one in away)
    if not away:
        return "the cluster's store does not answer."
    if voters == 1:
        return f"{named}, the only voter, does not answer."
    return f"{len(away)} of {voters} voters do not answer: {named}."
