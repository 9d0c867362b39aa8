"""Leading, losing the lead, and leading again, over a real local store."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from morgand.clock import SystemClock
from morgand.cluster.election import Leadership
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import Item
from morgand.errors import Unavailable
from morgand.leader import Leader
from morgand.planner import Inputs
from morgand.state import Sight


class Flickering:
    """A store that does not answer the first question after it was told to be silent."""

    def __init__(self, store: LocalStore) -> None:
        self._store, self.silent = store, False

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def get(self, key: str) -> Item | None:
        if self.silent:
            self.silent = False
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            except TimeoutError as err:
                raise Unavailable("The cluster store does not answer.") from err
        return await self._store.get(key)


class Nobody:
    """Nobody else is there."""

    def sight(self, host: str) -> Sight | None:
        return None

    def next(self) -> asyncio.Event:
        return asyncio.Event()


async def test_a_store_that_goes_away_again_and_again_does_not_end_leading(tmp_path: Path) -> None:
    """It fails a duty while the host leads, and then does not answer while it campaigns anew: both are tried again."""
    local = await LocalStore.open(tmp_path)
    store = Flickering(local)
    led: list[Leadership] = []
    again = asyncio.Event()

    async def duty(held: Leadership) -> None:
        led.append(held)
        if len(led) == 1:
            store.silent = True
            raise Unavailable("The cluster store cannot be followed.")
        again.set()
        await asyncio.Event().wait()

    leader = Leader(
        "a", store=store, mirror=Mirror(local, SystemClock()), sights=Nobody(),  # type: ignore[arg-type]
        inputs=lambda: Inputs((), (), {}, datetime.now(UTC)), clock=SystemClock(), duties=lambda: (duty,),
    )  # fmt: skip
    running = asyncio.create_task(leader.run())
    async with asyncio.timeout(10):
        await again.wait()
    assert led[0].epoch < led[1].epoch
    assert leader.held == led[1]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await local.close()
