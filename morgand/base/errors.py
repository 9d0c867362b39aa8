"""The error tree: every class's docstring is the default message a person reads.

Errors of libraries are translated once, where the library is called, with ``raise ... from err``.
The API maps ``code`` and ``status`` to HTTP; the CLI prints message and remedy.
"""

from __future__ import annotations

from typing import ClassVar


class MorganError(Exception):
    """Something went wrong inside Morgan."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(self, message: str | None = None, *, remedy: str | None = None) -> None:
        doc = self.__class__.__doc__ or "error"
        self.message = message or doc.strip().splitlines()[0]
        self.remedy = remedy
        super().__init__(self.message if remedy is None else f"{self.message} {remedy}")


class ConfigError(MorganError):
    """The configuration has faults."""

    code = "config"
    status = 400


class InvalidInput(MorganError):
    """The request is not valid."""

    code = "invalid"
    status = 400


class Unauthorized(MorganError):
    """An API key is needed."""

    code = "unauthorized"
    status = 401


class NotFound(MorganError):
    """There is no such thing."""

    code = "not_found"
    status = 404


class Conflict(MorganError):
    """The request contradicts what is stored."""

    code = "conflict"
    status = 409


class TooLarge(MorganError):
    """The content is over the size limit."""

    code = "too_large"
    status = 413


class Unsupported(MorganError):
    """The content is of a kind Morgan cannot read."""

    code = "unsupported"
    status = 415


class Unreadable(MorganError):
    """The content is damaged, encrypted or empty."""

    code = "unreadable"
    status = 422


class RateLimited(MorganError):
    """Too many requests."""

    code = "rate_limited"
    status = 429

    def __init__(self, message: str | None = None, *, retry_after_s: float, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class NotHereNow(MorganError):
    """What was asked is not here right now.

    The root of all that passes by itself: away, moved to another host, too busy, no room. Whoever can do without
    catches this one; nothing is given up for good because of it.
    """

    code = "unavailable"
    status = 503

    def __init__(self, message: str | None = None, *, retry_after_s: float = 1.0, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class Unavailable(NotHereNow):
    """The service is not available right now."""


class Overloaded(Unavailable):
    """The queue is full."""

    code = "overloaded"


class StorageFull(Unavailable):
    """The disk is full or read-only."""

    code = "storage_full"
    status = 507


class StoreConflict(MorganError):
    """The cluster store changed since it was read."""

    code = "store_conflict"
    status = 409


class Fenced(NotHereNow):
    """This host no longer holds what it acted for: a newer epoch exists."""

    code = "fenced"


class EngineError(Unavailable):
    """An engine failed."""

    code = "engine"


class Unforeseen(MorganError):
    """Something went wrong here that nobody foresaw; the log has the details."""


def first_of(group: BaseExceptionGroup[MorganError]) -> MorganError:
    """The first error in groups within groups."""
    one = group.exceptions[0]
    return first_of(one) if isinstance(one, BaseExceptionGroup) else one
