"""What 100 conversations at once cost on SQLite, on one PostgreSQL, and on a pair with synchronous replication.

``python -m benchmarks.conversations [--conversations N] [--pause SECONDS]``. A conversation has 50 messages to begin
with. Five times it stores a turn (the message, then the answer, each acknowledged) and reads 50 messages, then pauses
for a random time around ``--pause``, as the language model and the person do, for longer. Everything is on this machine
and its one disk, files synced: a pair on two machines has a network to wait for, and a disk each. Aims, p95: 100 ms to
store a turn, 50 ms to read a history. The last column is the time to store a turn in ratio to SQLite's.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy import insert

from morgand.base.clock import SystemClock
from morgand.storage.database import Database, sqlite_url
from morgand.storage.history import SqlHistory
from morgand.storage.migrate import upgrade
from morgand.storage.models import ConversationRow, MessageRow
from tests.fakes.postgres import Server, server, standby

CONVERSATIONS = 100
MESSAGES = 50
TURNS = 5
PAUSE_S = 5.0
AIMS_MS = (100.0, 50.0)
DURABLE = "fsync=on"
MESSAGE, ANSWER = "How is the pressure of the boiler set? " * 5, "It is set at the valve below the pump. " * 20
ATTACH_S = 30.0


class Load:
    """The same on every database; ``stored_ms`` and ``read_ms`` are what each turn and each reading took."""

    def __init__(self, database: Database, pause_s: float) -> None:
        self._database = database
        self._history = SqlHistory(database, SystemClock())
        self._pause_s = pause_s
        self.stored_ms: list[float] = []
        self.read_ms: list[float] = []

    async def run(self, conversations: int) -> None:
        ids = [uuid4() for _ in range(conversations)]
        for one in ids:
            await self._begin(one)
        await asyncio.gather(*(self._go_on(str(one)) for one in ids))

    async def _begin(self, conversation: UUID) -> None:
        now = SystemClock().now()
        row = {"details": {}, "created_at": now, "updated_at": now}
        said = {
            "conversation_id": conversation,
            "content": ANSWER,
            "tokens": 200,
            "citations": [],
            "notices": [],
            **row,
        }
        async with self._database.write() as session:
            values = {"id": conversation, "title": "", "message_count": MESSAGES, **row}
            await session.execute(insert(ConversationRow), [values])
            messages = [{"id": uuid4(), "position": number, "role": "user", **said} for number in range(MESSAGES)]
            await session.execute(insert(MessageRow), messages)

    async def _go_on(self, conversation: str) -> None:
        await asyncio.sleep(random.uniform(0, self._pause_s))
        for _ in range(TURNS):
            started = time.perf_counter()
            await self._turn(conversation)
            stored = time.perf_counter()
            await self._history.messages(conversation, limit=MESSAGES)
            self.stored_ms.append((stored - started) * 1000)
            self.read_ms.append((time.perf_counter() - stored) * 1000)
            await asyncio.sleep(random.uniform(0.5, 1.5) * self._pause_s)

    async def _turn(self, conversation: str) -> None:
        turn = str(uuid4())
        await self._history.store_message(turn, conversation, MESSAGE, tokens=50, user="ada")
        await self._history.store_answer(turn, ANSWER, tokens=200, citations=[], notices=[])


def percentile(values: Sequence[float], of: float) -> float:
    return sorted(values)[int(len(values) * of)]


async def measured(name: str, url: str, args: argparse.Namespace, base: float | None) -> float:
    """Prints one line of the table; returns the p50 of storing."""
    database = Database(url)
    await database.open()
    await upgrade(database)
    load = Load(database, args.pause)
    await load.run(args.conversations)
    await database.close()
    numbers = [percentile(values, of) for values in (load.stored_ms, load.read_ms) for of in (0.5, 0.95)]
    ratio = numbers[0] / (base or numbers[0])
    print(f"{name:<28}" + "".join(f"{number:>11.1f}" for number in numbers) + f"{ratio:>10.1f}x", flush=True)
    return numbers[0]


@asynccontextmanager
async def attached(primary: Server) -> AsyncIterator[None]:
    """With a standby that every commit waits for."""
    with standby(primary, "second", DURABLE):
        primary.set("synchronous_standby_names", "second")
        async with asyncio.timeout(ATTACH_S):
            while primary.sql("SELECT sync_state FROM pg_stat_replication") != "sync":
                await asyncio.sleep(0.1)
        try:
            yield
        finally:
            primary.set("synchronous_standby_names", "")


async def run(args: argparse.Namespace) -> None:
    print(f"{args.conversations} conversations, ms".ljust(28) + "store p50  store p95   read p50   read p95".rjust(44))
    with tempfile.TemporaryDirectory() as folder:
        base = await measured("SQLite", sqlite_url(Path(folder) / "db" / "morgan.sqlite"), args, None)
    with server(DURABLE) as primary:
        await measured("PostgreSQL", primary.url, args, base)
        async with attached(primary):
            await measured("PostgreSQL, synchronous pair", primary.url, args, base)
    print(f"{'aim':<39}{AIMS_MS[0]:>11.1f}{'':<11}{AIMS_MS[1]:>11.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="What many conversations at once cost, by database.")
    parser.add_argument("--conversations", type=int, default=CONVERSATIONS)
    parser.add_argument("--pause", type=float, default=PAUSE_S)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
