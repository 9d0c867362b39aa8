"""Whose a data directory is, and what a directory that was restored or copied may do.

One host's identity must never act twice. A lone host is nobody's concern: restored, it goes on. What a member's
directory holds may be older than what its cluster knows of it, its vote in etcd above all: it is let in anew.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from morgand.base.errors import ConfigError, Conflict
from morgand.cluster import keys, member_file
from morgand.cluster.member_file import MemberFile
from morgand.cluster.store import ClusterStore
from morgand.fingerprint.host_id import FILE, HostIdentity, Standing, bind, load_or_create

LET_IN = "Let it in: `morganctl cluster invite` on another host of the cluster, `morgand join` here."
LAST = "If no other host of the cluster can do that any more: `morgand recover`."

log = logging.getLogger("morgand.identity")


class Purpose(StrEnum):
    """What is to be done with a data directory."""

    RUN = "run"
    JOIN = "join"
    RECOVER = "recover"


@dataclass(frozen=True, slots=True)
class Claim:
    """``member``: of the cluster that the directory belongs to; None for a lone host's."""

    identity: HostIdentity
    standing: Standing
    member: MemberFile | None
    damaged: bool = False  # what says of which cluster cannot be read

    @property
    def renamed(self) -> bool:
        """A member's directory with another host's identity: a new host, to its cluster."""
        return self.member is not None and self.member.host != self.identity.id

    @property
    def new(self) -> bool:
        """Whether what is stored here is of no member that this host is."""
        return self.renamed or (self.member is None and not self.damaged)

    @property
    def trusted(self) -> bool:
        """Whether what is stored here is what this host stored last."""
        return self.standing is Standing.OWN and not self.renamed and not self.damaged


def claim(root: Path, purpose: Purpose, machine: str | None = None) -> Claim:
    """Whose directory this is. Raises Conflict where it may not be used so, ConfigError, StorageFull.

    Blocking. ``machine`` as for ``load_or_create``.
    """
    member, damaged = None, False
    try:
        member = member_file.read(root / "cluster")
    except ConfigError:
        if purpose is not Purpose.JOIN:  # which writes it anew
            raise
        damaged = True
    kept = load_or_create(root, machine)
    found = Claim(kept.identity, kept.standing, member, damaged)
    refused = objection(found, purpose, root)
    if refused is not None:
        raise refused
    if purpose is Purpose.RUN and not kept.bound:
        bind(root, kept.identity, machine)
    return found


def objection(found: Claim, purpose: Purpose, root: Path) -> Conflict | None:
    """Why a directory may not be used for this, or None. Pure."""
    told = {
        Standing.COPY: f"{root} is a copy of another data directory: two hosts would share one identity.",
        Standing.FOREIGN: f"{root} was copied from another machine: two hosts would share one identity.",
        Standing.RESTORED: f"{root} was put back or moved to another disk: its cluster may know more of this host than "
        "is stored here.",
        Standing.OWN: f"{root} is of a member of a cluster, but {FILE} in it is of a new host.",
    }[found.standing]
    anew = f"to make a new host of it, delete {root / FILE}"
    if found.member is None:
        if found.standing in (Standing.COPY, Standing.FOREIGN):
            return Conflict(
                told, remedy=f"Use the original; or, {anew} and start again: it goes on with all that is stored here."
            )
        return None
    if found.standing is Standing.COPY:
        return Conflict(told, remedy=f"Use the original; or, {anew} and join with it. {LET_IN}")
    if purpose is not Purpose.RUN or found.trusted:
        return None
    in_use = f" Where the original is still in use, {anew} first." if found.standing is Standing.FOREIGN else ""
    return Conflict(told, remedy=f"{LET_IN}{in_use} {LAST}")


async def take_over(store: ClusterStore, me: str) -> None:
    """What stands in a lone host's store of hosts is of itself alone: whatever stood there of another identity goes.

    What it stores is in its directory and is planned anew. Raises StorageFull.
    """
    items, _ = await store.list("/")
    gone = [one.key for one in items if keys.of_another(one.key, me)]
    if gone:
        await store.txn([], [], gone)
        log.info("store taken over", extra={"host_id": me, "forgotten": len(gone)})
