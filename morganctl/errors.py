"""What can go wrong for a person at the command line, each with its exit code.

Exit codes are a contract: 0 success, 1 error, 2 service unavailable, 64 usage.
"""

from __future__ import annotations

from typing import ClassVar

OK = 0
ERROR = 1
UNAVAILABLE = 2
USAGE = 64

# Codes in an error event of a stream, where no HTTP status tells.
_UNAVAILABLE_CODES = frozenset({"unavailable", "overloaded", "engine"})


class CliError(Exception):
    """The command failed."""

    exit_code: ClassVar[int] = ERROR

    def __init__(self, message: str, *, code: str = "error", remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.remedy = remedy


class UsageFault(CliError):
    """The command line cannot be understood."""

    exit_code = USAGE

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message, code="usage", remedy=remedy)


class ServiceUnavailable(CliError):
    """The daemon does not answer, or says it cannot."""

    exit_code = UNAVAILABLE

    def __init__(self, message: str, *, code: str = "unavailable", remedy: str | None = None) -> None:
        super().__init__(message, code=code, remedy=remedy)


class Away(ServiceUnavailable):
    """Nobody listens, or the connection broke: the daemon may be back soon."""


class Refused(CliError):
    """The daemon answered with an error; ``status`` is the HTTP status."""

    def __init__(self, status: int, message: str, *, code: str = "error", remedy: str | None = None) -> None:
        super().__init__(message, code=code, remedy=remedy)
        self.status = status


class Busy(ServiceUnavailable):
    """503 or 429 after all retries; ``retry_after_s`` is what the daemon asked for, seconds."""

    def __init__(self, message: str, *, code: str, remedy: str | None, retry_after_s: float) -> None:
        super().__init__(message, code=code, remedy=remedy)
        self.retry_after_s = retry_after_s


def from_event(code: str, message: str, remedy: str | None) -> CliError:
    """The error that an ``error`` event of a stream means."""
    if code in _UNAVAILABLE_CODES:
        return ServiceUnavailable(message, code=code, remedy=remedy)
    return CliError(message, code=code, remedy=remedy)
