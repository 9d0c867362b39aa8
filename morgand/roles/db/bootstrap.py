"""A database that was begun and never finished: whoever was making it died, and Patroni would wait for it for ever.

Patroni writes ``initialize`` when a member begins to make the database, and ``config`` when it is made. Pure.
"""

from __future__ import annotations

import msgspec

from morgand.cluster import keys
from morgand.cluster.store import Compare, QuietSince, Unchanged
from morgand.roles.db.patroni_keys import Patroni, needed

INITIALIZE, CONFIG = keys.PATRONI + "initialize", keys.PATRONI + "config"
WAITING = ("stopped", "")  # what a member that has no data says of its server


class _Member(msgspec.Struct):
    state: str = ""


def made(patroni: Patroni) -> bool:
    """Whether this cluster's database has ever been finished."""
    return CONFIG in patroni.items


def expendable(patroni: Patroni, me: str) -> bool:
    """Whether data of this host that were never whole may go: the database was never made, or another host leads what
    was made in the end. On what was begun here Patroni would never start then; of a copy there will be another."""
    return not made(patroni) or (patroni.leader is not None and me not in needed(patroni))


def abandoned(patroni: Patroni) -> int | None:
    """The revision of the claim to make the database, if nobody is at it; None when all is as it should be.

    A member that makes it says so within a second, and one that died is not there any more after 20 s: a claim that is
    found abandoned again after a few seconds is.
    """
    claim = patroni.items.get(INITIALIZE)
    if claim is None or made(patroni) or patroni.leader is not None:
        return None
    members = [item for key, item in patroni.items.items() if key.startswith(keys.PATRONI_MEMBERS)]
    return claim.mod_revision if all(_state(item.value) in WAITING for item in members) else None


def release(patroni: Patroni, claim: int) -> tuple[tuple[Compare, ...], str]:
    """Let somebody else make it: what has to hold, and the key to delete."""
    return (Unchanged(INITIALIZE, claim), QuietSince(keys.PATRONI, patroni.revision)), INITIALIZE


def _state(value: bytes) -> str:
    try:
        return msgspec.json.decode(value, type=_Member).state
    except msgspec.MsgspecError:
        return ""
