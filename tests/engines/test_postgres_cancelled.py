"""Whoever is cancelled in the moment in which the connection to PostgreSQL is lost ends: it does not try again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from morgand.storage.database import Database
from tests.fakes.postgres import Server, needed, opened, server

pytestmark = [pytest.mark.engine, needed]
TRIES, STEP_S, SLEEP_S = 40, 0.001, 0.02  # the cancellation comes before, while and after the server answers


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server() as found:
        yield found


@pytest.fixture
async def database(running: Server) -> AsyncIterator[Database]:
    async with opened(running.url) as found:
        yield found


@pytest.mark.parametrize("way", ["read", "write"])
async def test_work_on_a_database_that_changes_hands_is_cancelled_when_it_is_told_so(
    database: Database, way: str
) -> None:
    async def work(entered: asyncio.Event) -> None:
        block: AbstractAsyncContextManager[AsyncSession] = database.read() if way == "read" else database.write()
        async with block as session:
            entered.set()
            await session.execute(text(f"SELECT pg_sleep({SLEEP_S})"))

    async def told(delay_s: float) -> str:
        entered = asyncio.Event()
        working = asyncio.create_task(work(entered))
        await entered.wait()
        await asyncio.sleep(delay_s)
        database.hold()
        ended_already = working.done()
        working.cancel()
        outcome = (await asyncio.gather(working, return_exceptions=True))[0]
        database.admit()
        return "too late" if ended_already else type(outcome).__name__

    outcomes = Counter([await told(number * STEP_S) for number in range(TRIES)])
    assert outcomes.keys() <= {"CancelledError", "too late"}
    assert outcomes["CancelledError"]
