"""Leading, losing the lead, and leading again, over a real local store."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from morgand.base.aio import ended
from morgand.base.clock import SystemClock
from morgand.base.errors import Unavailable
from morgand.cluster import codec, keys
from morgand.cluster.codec import HostRecord
from morgand.cluster.election import Leadership
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.snapshot import Inputs
from morgand.cluster.store import Item, Put
from morgand.leader.leadership import VERDICT_S, Leader
from morgand.state.hosts import HostState, PeerHealth


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


class Eyes:
    """Sees what a test says; nobody else is there until then."""

    def __init__(self) -> None:
        self._peer_healths: dict[str, PeerHealth] = {}
        self._changed = asyncio.Event()

    def see(self, host: str, sight: PeerHealth) -> None:
        self._peer_healths[host] = sight
        self._changed.set()
        self._changed = asyncio.Event()

    def sight(self, host: str) -> PeerHealth | None:
        return self._peer_healths.get(host)

    def next(self) -> asyncio.Event:
        return self._changed


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
        "a", store=store, mirror=Mirror(local, SystemClock()), sights=Eyes(),  # type: ignore[arg-type]
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


class Shared:
    """A store that others can write, too: nobody takes the lead over from a leader that is there."""

    alone = False

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


async def test_a_defect_of_a_duty_costs_the_leadership_and_another_host_leads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The daemon goes on; the log has the cause. Where the duty fails everywhere they take turns, ever more slowly."""
    local = await LocalStore.open(tmp_path)
    store, led = Shared(local), list[str]()
    all_led = asyncio.Event()

    async def duty(held: Leadership) -> None:
        led.append(held.host)
        if len(led) == 4:
            all_led.set()
            await asyncio.Event().wait()
        raise KeyError("a record that nobody foresaw")

    leaders = [
        Leader(
            host, store=store, mirror=Mirror(local, SystemClock()), sights=Eyes(),  # type: ignore[arg-type]
            inputs=lambda: Inputs((), (), {}, datetime.now(UTC)), clock=SystemClock(), duties=lambda: (duty,),
        )
        for host in ("a", "b")
    ]  # fmt: skip
    running = [asyncio.create_task(one.run()) for one in leaders]
    async with asyncio.timeout(60):
        await all_led.wait()
    assert not any(one.done() for one in running)
    assert led in (["a", "b", "a", "b"], ["b", "a", "b", "a"])
    assert [one.message for one in caplog.records if one.exc_info] == ["leadership given up: a defect"] * 3
    assert "a record that nobody foresaw" in caplog.text
    await ended(*running)
    await local.close()


@pytest.mark.parametrize(
    ("dead", "written"), [(True, [HostState.FENCED]), (False, [HostState.SUSPECT, HostState.FENCED])]
)
async def test_a_verdict_that_follows_a_suspicion_at_once_does_not_wait_for_it_to_be_written(
    tmp_path: Path, dead: bool, written: list[HostState]
) -> None:
    local, clock, eyes = await LocalStore.open(tmp_path), SystemClock(), Eyes()
    revision = await local.txn([], [Put(keys.host("b"), codec.encode(HostRecord("b", "bolt", "::1", peer="[::1]:1")))])
    mirror = Mirror(local, clock)
    leader = Leader(
        "a", store=local, mirror=mirror, sights=eyes, inputs=lambda: Inputs((), (), {}, datetime.now(UTC)), clock=clock
    )
    running = [asyncio.create_task(mirror.run()), asyncio.create_task(leader.run())]
    found: list[HostState] = []

    async def follow() -> None:
        async for changes in local.watch(keys.HOSTS, revision):
            found.extend(
                codec.decode(HostRecord, one.item.value, key=one.key).state for one in changes.changes if one.item
            )

    running.append(asyncio.create_task(follow()))
    async with asyncio.timeout(10):
        while leader.held is None:
            await asyncio.sleep(0.01)
        eyes.see("b", PeerHealth(suspect=True))
        await asyncio.sleep(0 if dead else 3 * VERDICT_S)
        eyes.see("b", PeerHealth(suspect=True, dead=True))
        while HostState.FENCED not in found:
            await asyncio.sleep(0.01)
    assert found == written
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await local.close()
