"""Waiting for whatever comes first, for what may fail as a group, and for what must not be left half done."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def either(one: asyncio.Event, other: asyncio.Event) -> None:
    """Wait until one of them is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


async def isolated_task(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` in a task of its own, which ends with it: for whoever catches what a TaskGroup raises and goes on.

    A group whose task failed leaves a cancellation counted on the task that ran the group, and on Python 3.11.2
    every ``asyncio.timeout`` there raises CancelledError from then on: that task ends without a word.
    """
    return await asyncio.create_task(work)


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work``, which has an end of its own: whoever is cancelled meanwhile waits for it all the same. Only a
    second cancellation ends it."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
        raise
