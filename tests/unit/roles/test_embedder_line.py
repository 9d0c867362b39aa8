"""The embedder's waiting line."""

from __future__ import annotations

import asyncio

import pytest

from morgand.errors import Overloaded
from morgand.roles.embedder.engine import MAX_WAITING, Line


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_questions_go_before_passages() -> None:
    """A lower number is served first; equals are served in order of arrival."""
    line, served = Line(), []

    async def work(name: str, priority: int) -> None:
        await line.enter(priority)
        served.append(name)
        line.leave()

    await line.enter(1)
    async with asyncio.TaskGroup() as group:
        for name, priority in (("p1", 1), ("p2", 1), ("q1", 0), ("q2", 0)):
            group.create_task(work(name, priority))
        await _settle()
        line.leave()
    assert served == ["q1", "q2", "p1", "p2"]


async def test_a_full_line_refuses() -> None:
    """One more than MAX_WAITING raises Overloaded; the others are unharmed."""
    line = Line()
    await line.enter(1)
    tasks = [asyncio.create_task(line.enter(1)) for _ in range(MAX_WAITING)]
    await _settle()
    with pytest.raises(Overloaded):
        await line.enter(0)
    for task in tasks:
        line.leave()
        await task


@pytest.mark.parametrize("after_turn", [False, True])
async def test_a_cancelled_waiter_does_not_hold_the_line(*, after_turn: bool) -> None:
    """Cancelled while waiting, or in the moment its turn came: the next one is served."""
    line = Line()
    await line.enter(1)
    gone, stays = asyncio.create_task(line.enter(1)), asyncio.create_task(line.enter(1))
    await _settle()
    if after_turn:
        line.leave()
        gone.cancel()
    else:
        gone.cancel()
        await _settle()
        line.leave()
    await asyncio.wait_for(stays, 1)
    assert gone.cancelled()
