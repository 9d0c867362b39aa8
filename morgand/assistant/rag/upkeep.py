"""Upkeep of what is stored: done at the start, when somebody asks for it, now and then, and soon after it failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from morgand.base.aio import foreseen, wait_within
from morgand.base.errors import MorganError

log = logging.getLogger("morgand.assistant")

RETRY_S = (1.0, 2.0, 5.0, 10.0)  # after a failure; then the last one again


async def keep_up(work: Callable[[], Awaitable[object]], wake: asyncio.Event, every_s: float, failed: str) -> None:
    """Until cancelled. Setting ``wake`` asks for it. Of failures in a row the first is logged, as ``failed``."""
    failures = 0
    while True:
        wake.clear()
        try:
            await foreseen(work(), log, failed)
            failures = 0
        except MorganError as err:
            if not failures:
                log.warning(failed, extra={"reason": err.message})
            failures += 1
        await wait_within(wake, RETRY_S[min(failures, len(RETRY_S)) - 1] if failures else every_s)
