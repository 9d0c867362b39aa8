"""The wall clock jumps: decisions go by monotonic time, and only what people wrote as a date goes by dates."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest

from morgand.api.limits import Rate, Rates
from morgand.config import LimitsConfig
from morgand.errors import RateLimited
from morgand.security.keys import KeyRecord, Keys
from tests.fakes.storage import HandClock


class MemoryKeys:
    """Records in a dictionary."""

    def __init__(self) -> None:
        self.records: dict[str, KeyRecord] = {}

    def load(self) -> Mapping[str, KeyRecord]:
        return self.records

    async def put(self, record: KeyRecord) -> None:
        self.records[record.id] = record

    async def remove(self, key_id: str) -> None:
        del self.records[key_id]


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(days=400)])
def test_a_rate_is_counted_in_time_that_passed(jump: timedelta) -> None:
    """A jump of the wall clock neither opens the door nor keeps it shut; seconds that pass do open it."""
    clock = HandClock()
    rates = Rates(lambda: LimitsConfig(ingest_per_minute=2), clock)
    rates.admit("key", Rate.INGEST)
    rates.admit("key", Rate.INGEST)
    clock.wall += jump
    with pytest.raises(RateLimited) as caught:
        rates.admit("key", Rate.INGEST)
    assert caught.value.retry_after_s == pytest.approx(30)
    clock.elapsed_s += 31
    rates.admit("key", Rate.INGEST)


async def test_a_key_expires_by_the_date_and_is_not_lost_by_a_jump() -> None:
    """Past its date a key is refused; when the clock is set right again it counts again; nothing is deleted."""
    clock, store = HandClock(), MemoryKeys()
    keys = Keys(store, clock)
    _, limited = await keys.create("ada", expires_days=30)
    _, unlimited = await keys.create("bob")
    clock.wall += timedelta(days=400)
    assert keys.check(limited) is None
    assert keys.check(unlimited) is not None
    clock.wall -= timedelta(days=800)
    assert keys.check(limited) is not None
    assert len(keys.list()) == 2
