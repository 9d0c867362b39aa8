"""Somebody who writes to PostgreSQL all the time, with a record of every row that was acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Iterable, Sequence
from functools import partial

import asyncpg

from tests.lab.inside import inside
from tests.lab.timeline import longest_gap

PAUSE_S = 0.02
CONNECT_S = 1.0
WRITE_S = 2.0
STOP_S = 10.0
TABLE = "CREATE TABLE IF NOT EXISTS written (number bigint PRIMARY KEY, tries integer NOT NULL DEFAULT 1)"
# a row that may be there already is written again: what writes nothing does not wait for the standby
WRITE = "INSERT INTO written (number) VALUES ($1) ON CONFLICT (number) DO UPDATE SET tries = written.tries + 1"
FAILURES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


def outage(moments: Sequence[float], struck: float) -> float:
    """The longest time without an acknowledged write that ended after the fault, seconds.

    ``moments``: of the acknowledgements, in their order.
    """
    before = [one for one in moments if one <= struck]
    return longest_gap([*before[-1:], *(one for one in moments if one > struck)])


class Writer:
    """Writes numbered rows from within a namespace until stopped; a row is tried until it is acknowledged.

    All hosts are asked at once who takes writes, so that looking for the primary adds little to an outage.
    ``moments``: when rows 1, 2, 3 ... were acknowledged (monotonic clock).
    """

    def __init__(self, space: str, addresses: Iterable[str], password: str) -> None:
        self._space = space
        self._addresses = list(addresses)
        self._password = password
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._inside, name="writer")
        self.moments: list[float] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=STOP_S)

    def lost(self) -> set[int]:
        """Acknowledged rows that the primary does not have."""
        acknowledged = len(self.moments)
        stored = inside(self._space, partial(asyncio.run, self._stored()))
        return set(range(1, acknowledged + 1)) - stored

    def _inside(self) -> None:
        inside(self._space, partial(asyncio.run, self._run()))

    async def _run(self) -> None:
        numbers = itertools.count(1)
        number = next(numbers)
        while not self._stop.is_set():
            with contextlib.suppress(*FAILURES):
                connection = await self._connect()
                try:
                    await connection.execute(TABLE, timeout=WRITE_S)
                    while not self._stop.is_set():
                        await connection.execute(WRITE, number, timeout=WRITE_S)
                        self.moments.append(time.monotonic())
                        number = next(numbers)
                        await asyncio.sleep(PAUSE_S)
                finally:
                    connection.terminate()
            await asyncio.sleep(PAUSE_S)

    async def _stored(self) -> set[int]:
        connection = await self._connect()
        try:
            rows = await connection.fetch("SELECT number FROM written", timeout=60.0)
        finally:
            connection.terminate()
        return {row["number"] for row in rows}

    async def _connect(self) -> asyncpg.Connection:
        """To whoever takes writes. Raises one of FAILURES when nobody does."""
        tries = [asyncio.create_task(self._try(address)) for address in self._addresses]
        chosen = None
        for one in asyncio.as_completed(tries):
            with contextlib.suppress(*FAILURES):
                chosen = await one
                break
        for task in tries:
            task.cancel()
        for found in await asyncio.gather(*tries, return_exceptions=True):
            if isinstance(found, asyncpg.Connection) and found is not chosen:
                found.terminate()
        if chosen is None:
            raise ConnectionRefusedError("No host takes writes.")
        return chosen

    async def _try(self, address: str) -> asyncpg.Connection:
        return await asyncpg.connect(
            host=address, port=5432, user="postgres", database="postgres", password=self._password,
            target_session_attrs="read-write", timeout=CONNECT_S, ssl=False,
        )  # fmt: skip
