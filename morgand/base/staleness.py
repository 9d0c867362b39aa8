"""Whether the work under way may read what may be stale, and whether it did: what its answer then says.

Who can tell a person that an answer may be stale opens a ``Reading``; all work in it, its tasks included, may be
answered from a copy of the database. Everything else, above all what decides or writes by what it reads, never is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Reading:
    """``stale``: something of the answer came from a copy that may be behind."""

    stale: bool = False


_current: ContextVar[Reading | None] = ContextVar("reading", default=None)


@contextmanager
def reading() -> Iterator[Reading]:
    """For the time of the block."""
    made = Reading()
    token = _current.set(made)
    try:
        yield made
    finally:
        _current.reset(token)


def current() -> Reading | None:
    """The reading under way; None where nothing stale will do."""
    return _current.get()


def stale() -> bool:
    """Whether the answer under way may be stale."""
    found = _current.get()
    return found is not None and found.stale
