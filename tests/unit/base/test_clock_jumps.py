"""The wall clock jumps: decisions go by monotonic time, and only what people wrote as a date goes by dates."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from morgand.api.limits import Rate, Rates
from morgand.base.errors import RateLimited
from morgand.config import LimitsConfig
from morgand.process.supervisor import BACKOFF_S, COOL_DOWN_S, Child, ChildSpec
from morgand.security.keys import Keys
from morgand.state.roles import RoleState
from tests.fakes.backend import MemoryKeys
from tests.fakes.storage import HandClock

PROBE_PAUSE_S = 0.1  # between two looks at a child that loads


class JumpingClock(HandClock):
    """At each pause the wall clock jumps; the time that passes is what was slept. Keeps the pauses."""

    def __init__(self, jump: timedelta) -> None:
        super().__init__()
        self.jump = jump
        self.pauses: list[float] = []

    async def sleep(self, delay_s: float) -> None:
        self.pauses.append(delay_s)
        self.elapsed_s += delay_s
        self.wall += self.jump
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("jump", [timedelta(days=-30), timedelta(), timedelta(days=30)])
async def test_restarts_are_spaced_by_time_that_passed(tmp_path: Path, jump: timedelta) -> None:
    """An engine that ends again and again is restarted after the same pauses, and fails as soon, whatever the date."""
    clock, states = JumpingClock(jump), []
    program = (sys.executable, "-S", "-c", "raise SystemExit(3)")

    async def not_loaded() -> bool:
        return False

    child = Child(ChildSpec("toy", program, {}, tmp_path / "toy.log"), not_loaded, clock)
    running = asyncio.create_task(child.run(lambda state, _: states.append(state)))
    async with asyncio.timeout(30):
        while RoleState.FAILED not in states:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [pause for pause in clock.pauses if pause != PROBE_PAUSE_S] == [*BACKOFF_S, COOL_DOWN_S]
    assert states.count(RoleState.FAILED) == 1


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
