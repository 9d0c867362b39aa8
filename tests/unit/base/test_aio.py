"""Whoever is cancelled ends, whatever happens in the same moment; what the daemon goes on without."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from morgand.base.aio import (
    Parts,
    Pauses,
    cancellation_first,
    dispensable,
    ended,
    in_order,
    isolated_task,
    persist,
    wait_within,
)
from morgand.base.errors import Fenced, Unavailable, Unforeseen
from tests.fakes.storage import HandClock

log = logging.getLogger("morgand")


async def fails_when_cancelled() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise Unavailable


async def test_a_failure_in_the_moment_of_a_cancellation_does_not_stand_in_for_it() -> None:
    """Else a loop that goes on after failures goes on for ever."""

    async def keep() -> None:
        while True:
            try:
                async with asyncio.timeout(30):
                    await isolated_task(fails_when_cancelled())
            except Unavailable:
                await asyncio.Event().wait()  # the cancellation is lost

    keeping = asyncio.create_task(keep())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    keeping.cancel()
    done, _ = await asyncio.wait([keeping], timeout=10)
    if not done:
        keeping.cancel()
    assert done
    assert keeping.cancelled()


@pytest.mark.parametrize("cleaning_up", [False, True])
async def test_what_a_library_says_of_what_was_cancelled_does_not_stand_in_for_the_cancellation(
    *, cleaning_up: bool
) -> None:
    """But what fails while somebody cleans up, who knows of the cancellation already, is told."""

    async def work() -> None:
        try:
            if cleaning_up:
                await asyncio.Event().wait()
        finally:
            with cancellation_first():
                if cleaning_up:
                    raise Unavailable
                await fails_when_cancelled()

    working = asyncio.create_task(work())
    await asyncio.sleep(0)
    working.cancel()
    await asyncio.wait([working])
    assert working.cancelled() is not cleaning_up
    if cleaning_up:
        with pytest.raises(Unavailable):
            await working


def test_without_a_task_nothing_is_cancelled() -> None:
    with pytest.raises(Unavailable), cancellation_first():
        raise Unavailable


async def test_work_in_a_task_of_its_own_gives_its_result_and_its_failure() -> None:
    assert await isolated_task(asyncio.sleep(0, 7)) == 7
    with pytest.raises(Unavailable):
        async with asyncio.timeout(30):
            await isolated_task(_fails())


async def _fails() -> None:
    raise Unavailable


async def test_waiting_for_the_end_of_a_task_does_not_swallow_the_cancellation_of_who_waits() -> None:
    release = asyncio.Event()

    async def slow_to_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()

    slow = asyncio.create_task(slow_to_end())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(ended(slow))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting], timeout=10)
    assert waiting.cancelled()
    release.set()
    await ended(slow)
    assert slow.cancelled()
    await ended()


async def test_a_step_of_an_ending_that_fails_skips_no_other() -> None:
    done: list[str] = []

    async def fail() -> None:
        done.append("fail")
        raise Unavailable

    async def close() -> None:
        done.append("close")

    with pytest.raises(Unavailable):
        await in_order(close, fail, close)
    assert done == ["close", "fail", "close"]


async def test_a_defect_is_told_and_the_work_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    tries = 0

    async def work() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise PermissionError("models")

    await dispensable("downloads", work, Pauses(0.0, 0.0))
    assert tries == 3
    assert [one.message for one in caplog.records] == ["defect", "defect"]


def test_pauses_grow_up_to_the_last_one_and_begin_anew_when_it_went_well() -> None:
    pauses, now_s, found = Pauses(1.0, 60.0), 1000.0, []
    for _ in range(9):
        found.append(pauses.after_failure(now_s))
        now_s += found[-1] + 0.5
    assert found == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert pauses.after_failure(now_s + 60.0) == 1.0


async def test_a_defect_of_one_part_costs_the_others_nothing_unless_it_is_needed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Then the group ends with a sentence, and the log names the part."""
    failed, going_on, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def defect() -> None:
        failed.set()
        raise KeyError("tags")

    async def other() -> None:
        await failed.wait()
        await asyncio.sleep(0.01)
        going_on.set()
        await release.wait()
        await defect()

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            parts = Parts(group)
            parts.dispensable("tags", defect)
            parts.needed("mirror", other)

    running = asyncio.create_task(together())
    await going_on.wait()
    assert not running.done()
    release.set()
    with pytest.raises(ExceptionGroup) as ended_with:
        await running
    assert [type(one) for one in ended_with.value.exceptions] == [Unforeseen]
    told = {(one.message, one.__dict__.get("work") or one.__dict__.get("part")) for one in caplog.records}
    assert told == {("defect", "tags"), ("a part that is needed failed", "mirror")}


async def test_what_a_needed_part_says_itself_passes() -> None:
    """Alone and from a group of its own."""

    async def removed() -> None:
        raise Fenced

    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(removed())

    for work in (removed, grouped):
        with pytest.raises(ExceptionGroup) as ended_with:
            await asyncio.create_task(_one_part(work))
        assert ended_with.value.subgroup(Fenced) is not None
        assert ended_with.value.subgroup(Unforeseen) is None


async def _one_part(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        Parts(group).needed("pulse", work)


async def test_what_is_meant_for_others_passes() -> None:
    """That this host was removed, say, alone and in a group."""

    async def removed() -> None:
        raise Fenced

    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(removed())

    with pytest.raises(Fenced):
        await dispensable("profile", removed)
    with pytest.raises(ExceptionGroup):
        await asyncio.create_task(dispensable("profile", grouped))


async def test_it_ends_with_whoever_waits_for_it() -> None:
    over = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            over.set()

    task = asyncio.create_task(dispensable("disk", work))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert over.is_set()


async def test_an_event_is_waited_for_so_long_and_no_longer() -> None:
    event = asyncio.Event()
    assert not await wait_within(event, 0.0)
    asyncio.get_running_loop().call_soon(event.set)
    assert await wait_within(event, None)


async def test_what_fails_as_foreseen_is_tried_until_it_is_done() -> None:
    """With a pause between; any other failure is the caller's."""
    clock, failures = HandClock(), [Unavailable("away"), Unavailable("away"), Fenced("over")]

    async def work() -> None:
        if failures:
            raise failures.pop(0)

    with pytest.raises(Fenced):
        await persist(work, log, "not done", Unavailable, clock=clock, pause_s=3.0)
    assert clock.elapsed_s == 6.0
    await persist(work, log, "not done", Unavailable, clock=clock, pause_s=3.0)
