"""What the daemon goes on without."""

from __future__ import annotations

import asyncio

import pytest

from morgand.base.aio import dispensable
from morgand.base.errors import Fenced


async def test_a_defect_is_told_and_the_work_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    tries = 0

    async def work() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise PermissionError("models")

    await dispensable("downloads", work, pause_s=0.0)
    assert tries == 3
    assert [one.message for one in caplog.records] == ["defect", "defect"]


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
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    task = asyncio.create_task(dispensable("disk", work))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
