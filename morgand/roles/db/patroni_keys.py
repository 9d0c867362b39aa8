"""What stands in the store about the database: Patroni's keys, and the assignments and passwords beside them.

Patroni's keys are those of its documentation ("DCS keys"): ``leader`` names the primary, ``sync`` the standby that has
every acknowledged commit, ``failover`` asks for another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from morgand.cluster import codec, keys
from morgand.cluster.store import ClusterStore, Compare, Item, QuietSince, StoreCopy, Unchanged
from morgand.cluster.view import View
from morgand.roles.db.site import Secrets
from morgand.state.roles import Assignment

T = TypeVar("T", bound=msgspec.Struct)

ENGINE = "postgresql"
PRIMARY, STANDBY = "primary", "standby"
ASSIGNMENTS = f"{keys.ASSIGNMENTS}db/"


class Sync(msgspec.Struct):
    """What stands under ``sync``; Patroni writes null for nobody, and several standbys with commas."""

    leader: str | None = None
    sync_standby: str | None = None

    @property
    def standbys(self) -> tuple[str, ...]:
        return tuple(name for name in (self.sync_standby or "").split(",") if name)


class Failover(msgspec.Struct):
    """What stands under ``failover``."""

    leader: str | None = None
    member: str | None = None


@dataclass(frozen=True, slots=True)
class Patroni:
    """Patroni's keys and ours beside them, by their names in the store, as these and the assignments were at
    ``revision``."""

    items: Mapping[str, Item]
    revision: int

    @property
    def leader(self) -> str | None:
        item = self.items.get(keys.PATRONI_LEADER)
        return item.value.decode(errors="replace") if item else None

    @property
    def synchronous(self) -> tuple[str, ...]:
        """Standbys without each of which nothing was acknowledged; none unless they stand behind the present leader."""
        found = self.sync
        return found.standbys if found.leader is not None and found.leader == self.leader else ()

    @property
    def sync(self) -> Sync:
        item = self.items.get(keys.PATRONI_SYNC)
        return (read(Sync, item) if item else None) or Sync()

    @property
    def before(self) -> Sync | None:
        """Who had everything when a primary was given up whose heir has not taken over yet (``takeover``)."""
        said, sync = self.items.get(keys.TAKEOVER), self.items.get(keys.PATRONI_SYNC)
        if said is None or sync is None or said.mod_revision != sync.mod_revision or self.leader is not None:
            return None
        return read(Sync, said)

    @property
    def failover(self) -> Failover | None:
        """The order that stands; one that was carried out Patroni leaves there, empty."""
        item = self.items.get(keys.PATRONI_FAILOVER)
        found = read(Failover, item) if item else None
        return None if found == Failover() else found

    def unchanged(self, *names: str) -> tuple[Compare, ...]:
        """Compares for what was decided from these keys."""
        found = ((key, self.items.get(key)) for key in names)
        return tuple(Unchanged(key, item.mod_revision if item else 0) for key, item in found)

    @property
    def placed(self) -> tuple[Compare, ...]:
        """The compare for what was decided from the assignments too."""
        return (QuietSince(ASSIGNMENTS, self.revision),)


def needed(patroni: Patroni) -> frozenset[str]:
    """Hosts that no plan takes from the database: who leads it, and who may have to in a moment."""
    found = patroni.sync
    return frozenset(name for name in (patroni.leader, found.leader, *found.standbys) if name)


def read(kind: type[T], item: Item) -> T | None:
    """What stands there, or None for what is not of this kind."""
    try:
        return msgspec.json.decode(item.value, type=kind)
    except msgspec.MsgspecError:
        return None


def patroni_in(mirror: StoreCopy) -> Patroni:
    """Patroni's keys as they stand."""
    items = [*mirror.list(keys.PATRONI), *mirror.list(keys.TAKEOVER)]
    return Patroni({item.key: item for item in items}, mirror.revision)


async def patroni_now(store: ClusterStore) -> Patroni:
    """Patroni's keys, asked of the store itself. Raises Unavailable."""
    items, revision = await store.list(keys.PATRONI)
    return Patroni({item.key: item for item in items}, revision)


def holders_in(view: View) -> Sequence[Assignment]:
    """The assignments of the db role."""
    return view.assigned("db")


def secrets_in(mirror: StoreCopy) -> Secrets | None:
    """None until a leader has made them."""
    item = mirror.get(keys.DATABASE)
    return codec.decode(Secrets, item.value, key=item.key) if item else None
