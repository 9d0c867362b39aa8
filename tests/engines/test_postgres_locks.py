"""Many writers at once on PostgreSQL: none waits in a circle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from morgand.base.errors import NotFound
from morgand.state.assistant import DocumentState
from morgand.state.ports import DocumentResult
from morgand.storage import intake
from morgand.storage.database import Database
from morgand.storage.history import SqlHistory
from morgand.storage.library import SqlLibrary
from morgand.storage.purge import purge
from tests.fakes.postgres import Server, needed, server
from tests.fakes.storage import HandClock, new_document, tree

pytestmark = [pytest.mark.engine, needed]
CONVERSATIONS = 100
ROUNDS = 8


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server("deadlock_timeout=50ms") as started:
        yield started


@dataclass
class Crowd:
    """Everything that writes, over few conversations, sources and documents, by chance; ``NotFound`` is no fault."""

    database: Database
    chance: random.Random

    def __post_init__(self) -> None:
        self.clock = HandClock()
        self.history = SqlHistory(self.database, self.clock)
        self.library = SqlLibrary(self.database, self.clock)
        self.turns: list[tuple[str, str]] = []
        self.documents: list[str] = []
        self.chunks: list[str] = []

    async def talk(self, conversation: str) -> None:
        for number in range(ROUNDS):
            turn = str(uuid4())
            try:
                await self.history.store_message(turn, conversation, f"Message {number}", tokens=1, user=None)
                self.turns.append((turn, conversation))
                await self.history.store_answer(turn, "Answer", tokens=1, citations=[], notices=[])
                retried, place = self.chance.choice(self.turns)
                await self.history.store_answer(retried, "Again", tokens=1, citations=[], notices=[])
                await self.history.add_feedback(place, retried, rating=3, comment="x", kind="rating")
                await self.history.set_summary(place, "summary", retried)
            except NotFound:
                continue

    async def forget(self) -> None:
        for _ in range(ROUNDS):
            await asyncio.sleep(self.chance.random() * 0.1)
            if self.turns:
                try:
                    await self.history.delete_conversation(self.chance.choice(self.turns)[1])
                except NotFound:
                    continue
            self.clock.turn(86_400)
            await purge(self.database, self.clock, older_than_days=20)

    async def ingest(self) -> None:
        for number in range(ROUNDS):
            sources = [f"/docs/{self.chance.randrange(4)}" for _ in range(6)]
            new = [new_document(source, f"{number} {self.chance.random()}") for source in sources]
            added = [document.id for document, _ in await self.library.add_many(new)]
            self.documents += added
            await self.library.start(self.some(self.documents))
            done = []
            for document in self.some(added):
                chunks = tree(document, ["boiler", "soup"], embedding=None)
                self.chunks += [chunk.id for chunk in chunks]
                done.append(DocumentResult(document, None, "text/plain", tuple(chunks)))
            await self.library.complete_many(done)

    async def embed(self) -> None:
        for _ in range(ROUNDS):
            await asyncio.sleep(self.chance.random() * 0.05)
            await self.library.set_embeddings(dict.fromkeys(self.some(self.chunks), b"\0" * 8))
            try:
                await self.library.set_state(
                    self.chance.choice(self.documents or [str(uuid4())]), DocumentState.PENDING
                )
                await self.library.delete(self.chance.choice(self.documents or [str(uuid4())]))
            except NotFound:
                continue

    def some(self, ids: list[str]) -> list[str]:
        return self.chance.sample(ids, len(ids) // 2)


async def test_chunks_that_come_while_embeddings_wait_for_others_are_not_touched(
    running: Server, database: Database
) -> None:
    """Nobody holds their document: two who touch them could wait for each other."""
    library = SqlLibrary(database, HandClock())
    added = await library.add_many([new_document("/docs/old", "1"), new_document("/docs/new", "2")])
    old, new = (document.id for document, _ in added)
    chunks = {one: tree(one, ["boiler"], embedding=None) for one in (old, new)}
    await library.complete_many([DocumentResult(old, None, "text/plain", tuple(chunks[old]))])
    embeddings = {chunk.id: b"\0" * 8 for trees in chunks.values() for chunk in trees}
    async with database.write() as session:
        await intake.lock(session, [UUID(old)])
        storing = asyncio.create_task(library.set_embeddings(embeddings))
        async with asyncio.timeout(60):
            while running.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "0":
                await asyncio.sleep(0.02)
        await library.complete_many([DocumentResult(new, None, "text/plain", tuple(chunks[new]))])
    await storing
    assert {chunk.embedding for chunk in await library.chunks(old)} == {b"\0" * 8}
    assert {chunk.embedding for chunk in await library.chunks(new)} == {None}


async def test_a_crowd_of_writers_never_waits_in_a_circle(running: Server, database: Database) -> None:
    """A hundred conversations, ingestion, embeddings, deletions and purges: no deadlock, and no other failure."""
    crowd = Crowd(database, random.Random(7))
    conversations = [str(uuid4()) for _ in range(CONVERSATIONS)]
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for conversation in conversations:
            group.create_task(crowd.talk(conversation))
        for _ in range(6):
            for work in (crowd.forget, crowd.ingest, crowd.embed):
                group.create_task(work())
    assert running.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'") == "0"
    for conversation in conversations:
        try:
            messages = await crowd.history.messages(conversation)
        except NotFound:
            continue
        assert len(messages) == (await crowd.history.conversation(conversation)).messages
