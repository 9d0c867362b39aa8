"""Waiting for whatever comes first, and for what may fail as a group."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from morgand.base.errors import MorganError

log = logging.getLogger("morgand")

AGAIN_S = 60.0

T = TypeVar("T")


async def either(one: asyncio.Event, other: asyncio.Event) -> None:
    """Wait until one of them is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


async def dispensable(name: str, work: Callable[[], Coroutine[Any, Any, None]], pause_s: float = AGAIN_S) -> None:
    """Do ``work`` that the rest goes on without: a defect is told in the log, and it is begun again after a pause.

    A MorganError is no defect: what the work lets pass is meant for whoever waits for it.
    """
    while True:
        task = asyncio.create_task(work(), name=name)
        try:
            await asyncio.wait((task,))
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
        defect = None if task.cancelled() else task.exception()
        if defect is None or _expected(defect):
            return task.result()
        log.error("defect", exc_info=defect, extra={"work": name, "again_in_s": pause_s})
        await asyncio.sleep(pause_s)


def _expected(err: BaseException) -> bool:
    if isinstance(err, BaseExceptionGroup):
        return all(_expected(one) for one in err.exceptions)
    return isinstance(err, MorganError) or not isinstance(err, Exception)


async def isolated_task(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` in a task of its own, which ends with it: for whoever catches what a TaskGroup raises and goes on.

    A group whose task failed leaves a cancellation counted on the task that ran the group, and on Python 3.11.2
    every ``asyncio.timeout`` there raises CancelledError from then on: that task ends without a word.
    """
    return await asyncio.create_task(work)
