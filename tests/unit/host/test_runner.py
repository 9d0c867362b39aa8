"""The host's loop: what to start and stop as values, and services that really run and stop."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from morgand.base.clock import SystemClock
from morgand.base.errors import EngineError, StorageFull
from morgand.host.runner import Runner, reconcile
from morgand.process.supervisor import BACKOFF_S, COOL_DOWN_S, Report
from morgand.roles.lifecycle import TRANSITIONS, LifecycleEvent, Phase, step
from morgand.state.roles import Assignment, RoleState, RoleStatus

LLM = Assignment(role="llm", part="main", host="h", engine="llama.cpp", epoch=3, why="only host", model="small")
DB = Assignment(role="db", part="primary", host="h", engine="sqlite", epoch=3, why="only host")


def key(one: Assignment) -> str:
    return one.role


def test_nothing_to_do() -> None:
    """What runs as planned is kept."""
    work = reconcile([LLM, DB], {key(LLM): LLM, key(DB): DB})
    assert work.keep == (LLM, DB)
    assert not (work.start)
    assert not (work.stop)
    assert not (work.refused)


def test_new_epoch_of_the_same_engine_restarts_nothing() -> None:
    """A newer epoch with the same engine and model is taken over in place."""
    newer = replace(LLM, epoch=4)
    work = reconcile([newer], {key(LLM): LLM})
    assert work.keep == (newer,)
    assert not (work.start)
    assert not (work.stop)


def test_a_standby_becomes_the_main_one_without_a_restart() -> None:
    """A host holds one part of a role: another part of it with the same engine is the same work."""
    standby = replace(LLM, part="standby")
    work = reconcile([LLM], {key(standby): standby})
    assert work.keep == (LLM,)
    assert not (work.start)
    assert not (work.stop)


def test_another_model_is_a_restart() -> None:
    """The old engine is stopped and one with the new model started."""
    bigger = replace(LLM, epoch=4, model="big")
    work = reconcile([bigger], {key(LLM): LLM})
    assert work.start == (bigger,)
    assert work.stop == (key(LLM),)


def test_an_older_epoch_is_refused_and_what_runs_goes_on() -> None:
    """A late assignment of a former leader changes nothing."""
    late = replace(LLM, epoch=2, model="other")
    work = reconcile([late], {key(LLM): LLM})
    assert work.refused == (late,)
    assert not (work.start)
    assert not (work.stop)
    assert not (work.keep)


def test_what_is_no_longer_planned_is_stopped() -> None:
    """A withdrawn role stops."""
    assert reconcile([], {key(DB): DB}).stop == (key(DB),)


def test_lifecycle_knows_no_way_back_from_gone() -> None:
    """Gone is final, and an unknown pair raises."""
    assert all(phase is not Phase.GONE for phase, _ in TRANSITIONS)
    with pytest.raises(KeyError):
        step(Phase.GONE, LifecycleEvent.START)


def test_every_phase_but_gone_can_be_withdrawn_or_ended() -> None:
    """No phase is a trap."""
    for phase in (Phase.STARTING, Phase.READY, Phase.FAILED):
        assert step(phase, LifecycleEvent.WITHDRAW) is Phase.STOPPING
    assert step(Phase.STOPPING, LifecycleEvent.END) is Phase.GONE


class Toy:
    """A service that is ready at once and remembers that it was stopped."""

    def __init__(self, seen: list[str], *, failing: bool = False, defect: bool = False) -> None:
        self._seen, self._failing, self._defect = seen, failing, defect

    async def run(self, report: Report) -> None:
        if self._failing:
            raise EngineError("No such engine.", remedy="Install it.")
        if self._defect:
            raise ZeroDivisionError
        report(RoleState.READY, None)
        try:
            await asyncio.Event().wait()
        finally:
            self._seen.append("stopped")


async def until(runner: Runner, state: RoleState) -> RoleStatus:
    async with asyncio.timeout(30):
        while True:
            for status in runner.statuses():
                if status.state is state:
                    return status
            await asyncio.sleep(0.01)


async def test_services_run_and_stop() -> None:
    """An assignment starts its service; taking it away stops it and forgets it."""
    seen: list[str] = []
    changes: list[RoleStatus] = []
    runner = Runner(lambda _: Toy(seen), SystemClock(), changes.append)
    await runner.apply([LLM])
    await until(runner, RoleState.READY)
    await runner.apply([])
    assert seen == ["stopped"]
    assert runner.statuses() == []
    assert [one.state for one in changes] == [RoleState.READY, RoleState.STOPPING, RoleState.STOPPING]  # going, gone


async def test_what_is_stopping_when_all_is_stopped_stops_once() -> None:
    """A daemon that ends while a database is taking its time to."""
    seen: list[str] = []

    class Slow(Toy):
        async def run(self, report: Report) -> None:
            try:
                await super().run(report)
            finally:
                seen.append("leaving")
                await asyncio.sleep(0.2)
                seen.append("left")

    runner = Runner(lambda _: Slow(seen), SystemClock(), lambda _: None)
    await runner.apply([LLM])
    await until(runner, RoleState.READY)
    applying = asyncio.create_task(runner.apply([]))
    while "leaving" not in seen:
        await asyncio.sleep(0.01)
    applying.cancel()
    await asyncio.gather(applying, return_exceptions=True)
    await runner.stop()
    assert seen == ["stopped", "leaving", "left"]
    assert runner.statuses() == []


async def test_what_is_kept_hears_of_its_epoch_before_the_wait_for_what_stops() -> None:
    """A database may take seconds to stop; whoever became the primary meanwhile must not wait for that."""
    told: list[int] = []

    class Leaving(Toy):
        async def run(self, report: Report) -> None:
            try:
                await super().run(report)
            finally:
                told.extend(one.epoch for one in runner.statuses() if one.role == "db")

    runner = Runner(lambda one: (Toy if one.role == "db" else Leaving)([]), SystemClock(), lambda _: None)
    await runner.apply([LLM, DB])
    async with asyncio.timeout(30):
        while [one.state for one in runner.statuses()] != [RoleState.READY] * 2:
            await asyncio.sleep(0.01)
    await runner.apply([replace(DB, epoch=DB.epoch + 1)])
    assert told == [DB.epoch + 1]
    await runner.stop()


async def test_a_role_that_cannot_run_says_why() -> None:
    """The reason and the remedy are in the status; stopping still works."""
    runner = Runner(lambda _: Toy([], failing=True), SystemClock(), lambda _: None)
    await runner.apply([LLM])
    status = await until(runner, RoleState.FAILED)
    assert status.detail == "No such engine. Install it."
    await runner.stop()
    assert runner.statuses() == []


async def test_tasks_of_a_service_that_fail_together_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk that one of them meets is no defect."""
    monkeypatch.setattr("morgand.host.runner.RETRY_S", 0.01)

    class Together:
        tries = 0

        async def run(self, report: Report) -> None:
            self.tries += 1
            if self.tries == 1:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._fail())
            report(RoleState.READY, None)
            await asyncio.Event().wait()

        async def _fail(self) -> None:
            raise StorageFull

    service = Together()
    runner = Runner(lambda _: service, SystemClock(), lambda _: None)
    await runner.apply([LLM])
    assert (await until(runner, RoleState.READY)).detail is None
    await runner.stop()


class Hasty(SystemClock):
    """Waits are over at once, and pass; ``slept`` are those that were asked for."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return sum(self.slept)

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        await asyncio.sleep(0 if delay_s < COOL_DOWN_S else 3600)


@pytest.mark.parametrize("ending", ["raises", "a group of tasks", "returns"])
async def test_a_service_that_ends_by_a_defect_is_started_again(ending: str) -> None:
    """Its role is not lost to this host for ever."""

    class Once:
        tries = 0

        async def run(self, report: Report) -> None:
            self.tries += 1
            if self.tries == 1 and ending == "returns":
                return
            if self.tries == 1 and ending == "raises":
                raise ZeroDivisionError
            async with asyncio.TaskGroup() as group:
                group.create_task(self._go_on(report))

        async def _go_on(self, report: Report) -> None:
            if self.tries == 1:
                raise OSError(5, "Input/output error")
            report(RoleState.READY, None)
            await asyncio.Event().wait()

    service, clock = Once(), Hasty()
    runner = Runner(lambda _: service, clock, lambda _: None)
    await runner.apply([LLM])
    assert (await until(runner, RoleState.READY)).detail is None
    assert clock.slept == [BACKOFF_S[0]]
    await runner.stop()


async def test_a_defect_that_comes_again_and_again_fails_its_role_alone() -> None:
    """With the restarts of an engine's process; then its status says failed, and why. The other goes on."""
    clock = Hasty()
    runner = Runner(lambda one: Toy([], defect=one.role == "llm"), clock, lambda _: None)
    await runner.apply([LLM, DB])
    status = await until(runner, RoleState.FAILED)
    assert status.role == "llm"
    assert status.detail == "A defect ended it: ZeroDivisionError(). The log has the details."
    assert clock.slept == [*BACKOFF_S, COOL_DOWN_S]
    assert (await until(runner, RoleState.READY)).role == "db"
    await runner.stop()
