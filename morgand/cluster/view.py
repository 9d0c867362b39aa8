"""What stands in the store at one revision, typed: loops compare values, and nobody else decodes these records.

A record is decoded when somebody first looks at it, and again only after it was written again: each view begins with
what the one before it has decoded. One that another version wrote so that it cannot be read here raises MorganError,
which names it, for whoever looks at it, and costs nobody else anything. Pure but for ``view_of``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Generic, TypeVar
from urllib.parse import unquote

from morgand.cluster import codec, keys
from morgand.cluster.codec import HostFailures, HostRecord, HostStatus
from morgand.cluster.store import ClusterStore, Item
from morgand.cluster.voters import VoterRecord, VoterState
from morgand.state.hosts import Profile
from morgand.state.roles import Assignment

T = TypeVar("T")


class Records(Mapping[str, T], Generic[T]):
    """The records of one kind by the end of their keys (a host's id as a rule), in order of it."""

    def __init__(self, kind: type[T], items: Mapping[str, Item], decoded: dict[str, Any]) -> None:
        self._kind, self._items, self._decoded = kind, items, decoded

    def __getitem__(self, name: str) -> T:
        """Raises KeyError; MorganError for one that cannot be read."""
        item = self._items[name]
        if item.key not in self._decoded:
            self._decoded[item.key] = codec.decode(self._kind, item.value, key=item.key)
        found: T = self._decoded[item.key]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


class View:
    """Never changes. ``items`` has the rest by key: revisions to compare, and what only one reader understands."""

    def __init__(self, items: Iterable[Item], revision: int, before: View | None = None) -> None:
        self.items: Mapping[str, Item] = {item.key: item for item in sorted(items, key=lambda one: one.key)}
        self.revision = revision
        self._decoded = before.unchanged_in(self.items) if before is not None else {}

    def unchanged_in(self, items: Mapping[str, Item]) -> dict[str, Any]:
        """What was decoded here and is the same there."""
        return {key: found for key, found in self._decoded.items() if items.get(key) == self.items[key]}

    @cached_property
    def hosts(self) -> Mapping[str, HostRecord]:
        return self._records(HostRecord, keys.HOSTS)

    @cached_property
    def profiles(self) -> Mapping[str, Profile]:
        return self._records(Profile, keys.PROFILES)

    @cached_property
    def statuses(self) -> Mapping[str, HostStatus]:
        """What each host said last of itself."""
        return self._records(HostStatus, keys.STATUS)

    @cached_property
    def failures(self) -> Mapping[str, HostFailures]:
        """What each host could not perform."""
        return self._records(HostFailures, keys.FAILURES)

    @cached_property
    def voters(self) -> Mapping[str, VoterRecord]:
        """Hosts with a seat in etcd, wanted ones and learners among them."""
        return self._records(VoterRecord, keys.VOTERS)

    @property
    def voting(self) -> tuple[VoterRecord, ...]:
        return tuple(one for one in self.voters.values() if one.state is VoterState.VOTER)

    @cached_property
    def assignments(self) -> tuple[Assignment, ...]:
        """In order of role, part and host."""
        return tuple(self._assignments.values())

    def assigned(self, role: str) -> tuple[Assignment, ...]:
        """Those of one role: what is said of the others need not be readable for it."""
        return tuple(self._assignments[slot] for slot in self._assignments if slot.startswith(f"{role}/"))

    @cached_property
    def _assignments(self) -> Mapping[str, Assignment]:
        return self._records(Assignment, keys.ASSIGNMENTS)

    def _records(self, kind: type[T], prefix: str) -> Records[T]:
        found = {unquote(key[len(prefix) :]): item for key, item in self.items.items() if key.startswith(prefix)}
        return Records(kind, found, self._decoded)


async def view_of(store: ClusterStore, before: View | None = None) -> View:
    """One consistent reading of the whole store. Raises Unavailable."""
    items, revision = await store.list("/")
    return View(items, revision, before)


def view_of_values(values: Mapping[str, bytes]) -> View:
    """Of what was copied out of a store that runs no more: its revisions mean nothing."""
    return View((Item(key, value, 0, 0) for key, value in values.items()), 0)
