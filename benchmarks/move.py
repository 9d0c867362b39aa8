"""The move from SQLite to PostgreSQL: how long it takes, and for how much of that nobody can write.

``python -m benchmarks.move [--documents N] [--messages N]``. Forty chunks a document, with embeddings of 384 numbers;
texts are drawn word by word from a vocabulary of 20,000. All the while turns are stored, one after the other. Both
databases are on this machine and share its cores: between two hosts the hold is shorter. Target: 10 s of hold at most.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Table, func, insert, select

from morgand.base.clock import SystemClock
from morgand.base.errors import Unavailable
from morgand.storage.database import Database, sqlite_url
from morgand.storage.history import SqlHistory
from morgand.storage.migrate import upgrade
from morgand.storage.models import Base
from morgand.storage.move.mover import DatabaseMove, Progress
from tests.fakes.postgres import server

DOCUMENTS = 5_000
MESSAGES = 50_000
CHUNKS = 40  # a document
MESSAGES_EACH = 50  # a conversation
EMBEDDING_BYTES = 384 * 4
TARGET_S = 10.0
LENGTHS = (("coarse", 150), *[("medium", 60)] * 13, *[("fine", 20)] * 26)
WORDS = tuple(f"word{number}" for number in range(20_000))
TABLES = Base.metadata.tables


class Content:
    """Seeded rows."""

    def __init__(self) -> None:
        self._chance = random.Random(2)
        self._now = datetime(2026, 3, 1, tzinfo=UTC)

    def conversations(self, number: int) -> Iterator[dict[str, Any]]:
        for _ in range(number):
            yield {**self._row(), "title": self._text(6), "message_count": MESSAGES_EACH}

    def messages(self, conversation: UUID) -> Iterator[dict[str, Any]]:
        for position in range(MESSAGES_EACH):
            role = ("user", "assistant")[position % 2]
            yield {
                **self._row(), "conversation_id": conversation, "position": position, "role": role,
                "content": self._text(15 + 60 * (position % 2)), "tokens": 20, "citations": [], "notices": [],
            }  # fmt: skip

    def document(self) -> dict[str, Any]:
        name = self._text(2)
        return {
            **self._row(), "name": name, "source": f"/{uuid4()}", "revision": 1, "mime": "text/plain",
            "size_bytes": 9_000, "sha256": "0" * 64, "bucket": "documents", "object_key": name, "state": "completed",
            "chunks": CHUNKS, "embeddings": CHUNKS,
        }  # fmt: skip

    def chunks(self, document: UUID, first: int) -> Iterator[dict[str, Any]]:
        seen: Counter[str] = Counter()
        for number, (level, words) in enumerate(LENGTHS):
            yield {
                **self._row(), "document_id": document, "level": level, "position": seen[level],
                "text": self._text(words), "tokens": words, "place": "page 1",
                "embedding": self._chance.randbytes(EMBEDDING_BYTES), "fulltext_row": first + number,
            }  # fmt: skip
            seen[level] += 1

    def _row(self) -> dict[str, Any]:
        return {
            "id": UUID(int=self._chance.getrandbits(128)),
            "created_at": self._now,
            "updated_at": self._now,
            "metadata": {},
        }

    def _text(self, words: int) -> str:
        return " ".join(self._chance.choices(WORDS, k=words))


async def fill(database: Database, documents: int, messages: int) -> None:
    content = Content()
    numbers = TABLES["document_chunks"].c.fulltext_row
    async with database.read() as session:
        free = 1 + (await session.scalar(select(func.max(numbers))) or 0)
    conversations = list(content.conversations(max(messages // MESSAGES_EACH, 1)))
    await store(database, TABLES["conversations"], conversations)
    for one in conversations:
        await store(database, TABLES["messages"], list(content.messages(one["id"])))
    for first in range(0, documents, 50):
        rows = [content.document() for _ in range(min(50, documents - first))]
        await store(database, TABLES["documents"], rows)
        chunks = [
            chunk
            for number, row in enumerate(rows)
            for chunk in content.chunks(row["id"], free + (first + number) * CHUNKS)
        ]
        await store(database, TABLES["document_chunks"], chunks)


async def store(database: Database, table: Table, rows: list[dict[str, Any]]) -> None:
    async with database.write() as session:
        await (await session.connection()).execute(insert(table), rows)


class Talker:
    """Stores turns without a pause; remembers the longest time in which none could be stored."""

    def __init__(self, database: Database) -> None:
        self._history = SqlHistory(database, SystemClock())
        self.stored = 0
        self.longest_s = 0.0

    async def run(self) -> None:
        last = time.perf_counter()
        while True:
            try:
                await self._history.store_message(str(uuid4()), None, "How is the boiler?", tokens=5, user="ada")
            except Unavailable:
                pass
            else:
                self.longest_s = max(self.longest_s, time.perf_counter() - last)
                last = time.perf_counter()
                self.stored += 1
            await asyncio.sleep(0.02)


class Stages:
    """When each stage began."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}

    def report(self, progress: Progress) -> None:
        self.began.setdefault(progress.stage, time.perf_counter())


async def nothing() -> None:
    """The cluster's part takes no time here."""


async def run(documents: int, messages: int) -> None:
    with tempfile.TemporaryDirectory() as folder, server() as postgres:
        file = Path(folder) / "morgan.db"
        database = Database(sqlite_url(file))
        await database.open()
        await upgrade(database)
        await fill(database, documents, messages)
        print(f"{messages} messages, {documents * CHUNKS} chunks, {file.stat().st_size / 2**20:.0f} MiB of SQLite")
        talker, stages = Talker(database), Stages()
        talking = asyncio.create_task(talker.run())
        started = time.perf_counter()
        moved = await DatabaseMove(database, postgres.url, "benchmark", SystemClock(), stages.report).run(nothing)
        total_s = time.perf_counter() - started
        talking.cancel()
        for stage, began in stages.began.items():
            print(f"  {stage} began after {began - started:.1f} s")
        print(f"moved {sum(moved.rows.values())} rows in {total_s:.1f} s; {talker.stored} turns were stored meanwhile")
        print(
            f"writes held for {moved.held_s:.2f} s (target {TARGET_S:g} s): {moved.held_s / total_s:.1%} of the move; "
            f"before that the longest gap between two turns was {talker.longest_s:.2f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="The move from SQLite to PostgreSQL.")
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    given = parser.parse_args()
    asyncio.run(run(given.documents, given.messages))


if __name__ == "__main__":
    main()
