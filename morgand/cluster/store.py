"""The cluster's truth: keys and values under one global revision, after etcd's model.

``create_revision`` is the revision that made a key, ``mod_revision`` the one that last wrote it; both only grow.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from morgand.state.roles import Assignment


@dataclass(frozen=True, slots=True)
class Item:
    key: str
    value: bytes
    create_revision: int
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Compare: the key was last written at exactly ``mod_revision``; 0 means that it must not exist."""

    key: str
    mod_revision: int


@dataclass(frozen=True, slots=True)
class QuietSince:
    """Compare: no key that exists under ``prefix`` was written after ``revision``."""

    prefix: str
    revision: int


Compare = Unchanged | QuietSince


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """A key was written, or deleted (``item`` is None)."""

    key: str
    item: Item | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened up to ``revision``.

    With ``resync`` the history had a gap: ``changes`` hold everything there is now, and what is not among them is gone.
    """

    revision: int
    changes: tuple[Change, ...]
    resync: bool = False


@dataclass(frozen=True, slots=True)
class Handoff:
    """Roles that pass from one host to another: ``given`` (their epoch is set when it is known), slots ``taken``, and
    what else is written and has to hold for it.
    """

    given: tuple[Assignment, ...] = ()
    taken: tuple[tuple[str, str, str], ...] = ()
    compares: tuple[Compare, ...] = ()
    puts: tuple[Put, ...] = ()
    deletes: tuple[str, ...] = ()


NOTHING = Handoff()


class StoreCopy(Protocol):
    """A copy of the truth in memory (``mirror.Mirror``), as those need it who only read."""

    @property
    def revision(self) -> int: ...

    def get(self, key: str) -> Item | None: ...

    def list(self, prefix: str) -> Sequence[Item]:
        """In order of their keys."""
        ...


class ClusterStore(Protocol):
    """Every method may raise Unavailable; writes may raise StorageFull."""

    @property
    def alone(self) -> bool:
        """Nobody else can write here: what another owner left behind is stale."""
        ...

    async def get(self, key: str) -> Item | None: ...

    async def list(self, prefix: str) -> tuple[list[Item], int]:
        """Items in order of their keys, and the revision they were read at."""
        ...

    async def txn(self, compares: Sequence[Compare], puts: Sequence[Put], deletes: Sequence[str] = ()) -> int:
        """All or nothing; returns the new revision. Raises StoreConflict when a compare does not hold."""
        ...

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Changes]:
        """Changes after ``from_revision``, without end, re-synchronised after gaps."""
        ...

    async def close(self) -> None: ...
