"""When to ask again (pure): three retries, exponential, no jitter; the daemon's Retry-After up to a bound."""

from __future__ import annotations

RETRIES = 3
FIRST_DELAY_S = 0.2
RETRY_AFTER_LIMIT_S = 10.0


def delay_s(attempt: int, retry_after_s: float | None = None) -> float | None:
    """Seconds to wait after attempt number ``attempt`` (from 0) failed; None: give up.

    A wish over ``RETRY_AFTER_LIMIT_S`` is not waited for: the person decides.
    """
    if attempt >= RETRIES:
        return None
    if retry_after_s is None:
        return float(FIRST_DELAY_S * 2**attempt)
    return retry_after_s if retry_after_s <= RETRY_AFTER_LIMIT_S else None


def parse_retry_after(header: str | None) -> float | None:
    """Seconds of a ``Retry-After`` header; None when absent or a date (which Morgan never sends)."""
    if header is None or not header.strip().isdecimal():
        return None
    return float(header)
