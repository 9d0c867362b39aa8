"""Rates per API key and the bounded queue before the LLM: the arithmetic is pure, the keepers hold its state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from morgand.base.clock import Clock
from morgand.base.errors import Overloaded, RateLimited
from morgand.config import LimitsConfig

BUCKETS_MAX = 10_000
FIRST_GUESS_S = 5.0  # how long an answer takes before one was measured
SMOOTHING = 0.2  # weight of the newest measurement


class Rate(StrEnum):
    """Classes of requests that are counted together."""

    CHAT = "chat"
    SEARCH = "search"
    INGEST = "ingest"


@dataclass(frozen=True, slots=True)
class Bucket:
    """Tokens left at a monotonic time, seconds."""

    tokens: float
    at_s: float


def take(bucket: Bucket | None, now_s: float, per_minute: int) -> tuple[Bucket, float]:
    """Take one token: the new bucket and 0, or the refilled bucket and the seconds until a token is there.

    A bucket holds a minute's worth, so a burst of ``per_minute`` passes; None is a full one.
    """
    if bucket is None:
        bucket = Bucket(float(per_minute), now_s)
    gained = max(0.0, now_s - bucket.at_s) * per_minute / 60
    tokens = min(float(per_minute), bucket.tokens + gained)
    if tokens >= 1:
        return Bucket(tokens - 1, now_s), 0.0
    return Bucket(tokens, now_s), (1 - tokens) * 60 / per_minute


class Rates:
    """One bucket per API key and class. Limits are read at each request: they change while the daemon runs."""

    def __init__(self, limits: Callable[[], LimitsConfig], clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._buckets: dict[tuple[str, Rate], Bucket] = {}

    def admit(self, key_id: str, rate: Rate) -> None:
        """Raises RateLimited with the time to wait."""
        per_minute = _per_minute(self._limits(), rate)
        if len(self._buckets) >= BUCKETS_MAX:
            # Revoked keys leave buckets behind; the oldest ones are full again anyway.
            oldest = min(self._buckets, key=lambda slot: self._buckets[slot].at_s)
            del self._buckets[oldest]
        slot = (key_id, rate)
        self._buckets[slot], wait_s = take(self._buckets.get(slot), self._clock.monotonic(), per_minute)
        if wait_s > 0:
            raise RateLimited(
                f"More than {per_minute} {rate} requests a minute with this key.",
                retry_after_s=wait_s,
                remedy=f"Try again in {math.ceil(wait_s)} s, or raise limits.{rate}_per_minute.",
            )


class Queue:
    """Requests that wait for the LLM or are being answered. Over the bound they are refused with an estimate."""

    def __init__(self, limits: Callable[[], LimitsConfig], clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._waiting = 0
        self._typical_s = FIRST_GUESS_S

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def full(self) -> bool:
        return self._waiting >= self._limits().queue

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for the time of the block. Raises Overloaded."""
        if self.full:
            # A queue of requests through one engine drains at one answer per typical duration per place in line.
            wait_s = max(1.0, self._typical_s)
            whole_s = math.ceil(self._typical_s * self._waiting)
            raise Overloaded(
                f"{self._waiting} requests wait for the LLM already; the line takes about {whole_s} s.",
                retry_after_s=wait_s,
                remedy=f"Try again in {math.ceil(wait_s)} s.",
            )
        began_s = self._clock.monotonic()
        self._waiting += 1
        depth = self._waiting
        try:
            yield
        finally:
            self._waiting -= 1
            # The time in line divided by its length is the time of one answer.
            own_s = (self._clock.monotonic() - began_s) / depth
            self._typical_s += SMOOTHING * (own_s - self._typical_s)


def _per_minute(limits: LimitsConfig, rate: Rate) -> int:
    return {
        Rate.CHAT: limits.chat_per_minute,
        Rate.SEARCH: limits.search_per_minute,
        Rate.INGEST: limits.ingest_per_minute,
    }[rate]
