"""Every port, every method, every way of not being here now: what it costs a person.

One table. The ports and the errors come from the code: a new one without a row fails the test.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pkgutil
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import aiohttp
import pytest

import morgand
from morgand.admin import status
from morgand.api.backend import Backend
from morgand.assistant import degrade
from morgand.assistant.assistant import Assistant
from morgand.assistant.delivery import Delivery
from morgand.assistant.rag import retrieve
from morgand.assistant.rag.ingest import Ingestor
from morgand.assistant.rag.way import ATTEMPTS, LATER_S
from morgand.base.clock import SystemClock
from morgand.base.errors import NotHereNow, Overloaded, StorageFull
from morgand.config import Config
from morgand.state import ports
from morgand.state.assistant import DocumentState
from morgand.storage.database import Database
from morgand.storage.outbox import Outbox
from tests.fakes import away
from tests.fakes.assistant import (
    FolderObjects,
    HashEmbedder,
    LineExtractor,
    MemoryCache,
    ScriptedChat,
    WordReranker,
)
from tests.fakes.backend import make_backend
from tests.fakes.server import Served, of, served
from tests.fakes.storage import HandClock
from tests.fakes.vectors import WordVectors

TEXT = "The boiler pressure should read 1.5 bar when cold."
QUESTION = {"text": "What pressure should the boiler show when cold?"}
LONG = {"text": "What pressure should the boiler show when cold? " * 20}  # its tokens are counted
THERE = (Overloaded, StorageFull)  # it is there, and says what is wrong


@dataclass
class Made:
    """The assistant on engines in memory."""

    index: WordVectors
    clock: HandClock
    history: ports.History = field(init=False)  # past all faults, as the next one
    library: ports.Library = field(init=False)
    outbox: Outbox = field(init=False)
    assistant: Assistant = field(init=False)
    ingestor: Ingestor = field(init=False)

    def backend(self, given: Backend, faults: away.Faults) -> Backend:
        """On the database of ``given``."""

        def patience_s() -> float:
            """A busy machine is no reason to keep a message that can be stored."""
            return 0.1 if faults.always.keys() & {"History.turn", "History.store_message"} else 60.0

        history, library = given.history, given.library
        chat = away.port(ports.Chat, ScriptedChat("It should read 1.5 bar [1]."), faults)
        embedder = away.port(ports.Embedder, HashEmbedder(), faults)
        reranker = away.port(ports.Reranker, WordReranker(), faults)
        vectors = away.port(ports.Vectors, self.index, faults)
        self.outbox = Outbox(given.spool.parent, "atlas")
        self.assistant = Assistant(
            chat=chat, fast=None, retriever=retrieve.Retriever(vectors, embedder, reranker, library),
            reranker=reranker, history=history, delivery=Delivery(self.outbox, patience_s, SystemClock()),
            settings=Config,
        )  # fmt: skip
        objects = away.port(ports.Objects, FolderObjects(given.spool.parent / "objects"), faults)
        self.ingestor = Ingestor(
            library=library, objects=away.port(ports.Originals, objects, faults),
            extractor=away.port(ports.Extractor, LineExtractor(), faults), embedder=embedder, vectors=vectors,
            cache=away.port(ports.Cache, MemoryCache(), faults), settings=Config, clock=self.clock,
        )  # fmt: skip
        return replace(
            given, assistant=self.assistant, ingestor=self.ingestor, chat=chat, embedder=embedder, reranker=reranker,
            outbox=self.outbox,
        )  # fmt: skip


@dataclass
class Morgan:
    """The whole assistant behind its API. ``document`` and ``conversation`` are there already."""

    api: Served
    faults: away.Faults
    made: Made
    document: str = ""
    conversation: str = ""

    async def ask(self, method: str, path: str, **more: Any) -> Answer:
        async with self.api.session.request(method, path, **more) as response:
            return Answer(response.status, await response.json(), response.headers.get("Retry-After"))

    async def upload(self, content: str, source: str = "") -> Answer:
        form = aiohttp.FormData()
        form.add_field("source", source or str(uuid4()))
        form.add_field("file", content.encode(), filename="a.txt")
        return await self.ask("POST", "/v1/documents", data=form)

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Time passes, and engines that came back say so."""
        async with asyncio.timeout(60):
            while not await condition():
                self.made.clock.turn(LATER_S)
                self.made.ingestor.wake()
                await asyncio.sleep(0.02)

    async def whole(self) -> bool:
        """Every document is completed, embedded, and in the index, but for those that are damaged themselves."""
        found = await self.made.library.documents()
        good = [one for one in found if not (one.state is DocumentState.FAILED and "damaged" in str(one.error))]
        done = all(one.state is DocumentState.COMPLETED and one.embeddings == one.chunks for one in good)
        return done and await self.made.index.counts() == await self.made.library.live()


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    retry_after: str | None = None


Act = Callable[[Morgan], Awaitable[Answer]]
Expect = Callable[[Answer, NotHereNow], bool]


@dataclass(frozen=True)
class Row:
    """What is done while a method is away (``with_`` other ones), and what is seen of it.

    ``expect`` None: documents pass through one such error after the other, and are whole in the end.
    """

    act: Act
    expect: Expect | None = None
    with_: tuple[str, ...] = ()


# --- what is seen ------------------------------------------------------------------------------------


def refused(answer: Answer, error: NotHereNow) -> bool:
    """The error's own status and code, and when to come again."""
    code = answer.body["error"]["code"]
    return (answer.status, code) == (error.status, error.code) and answer.retry_after is not None and error.status > 500


def unharmed(answer: Answer, _: NotHereNow) -> bool:
    return answer.status == 200


def kept(answer: Answer, error: NotHereNow) -> bool:
    """The message waits on this host."""
    return refused(answer, error) if isinstance(error, THERE) else (answer.status == 202)


def note(text: str) -> Expect:
    """Answered without it, and said so."""
    return lambda answer, _: answer.status == 200 and text in answer.body["notices"]


def no_model(answer: Answer, error: NotHereNow) -> bool:
    """A model that has too much to do is worth waiting for; without one, the passages are shown."""
    return refused(answer, error) if isinstance(error, Overloaded) else note(degrade.NOTICE_NO_LLM)(answer, error)


def without(model: str) -> Expect:
    return lambda answer, _: answer.status == 200 and model not in [one["id"] for one in answer.body["data"]]


# --- what is done ------------------------------------------------------------------------------------


def request(method: str, path: str, **more: Any) -> Act:
    """``{document}`` and ``{conversation}`` of the path are those that are there."""
    return lambda morgan: morgan.ask(
        method, path.format(document=morgan.document, conversation=morgan.conversation), **more
    )


def turn(text: str, **more: Any) -> Act:
    return lambda morgan: morgan.ask("POST", "/v1/turns", json={"id": str(uuid4()), "text": text} | more)


async def long_turn(morgan: Morgan) -> Answer:
    """In a conversation that outgrows its budget with this turn."""
    answer = await turn("A story. " * 2000)(morgan)
    async with asyncio.timeout(20):
        while morgan.made.assistant.summarising:
            await asyncio.sleep(0.01)
    return answer


async def ingest(morgan: Morgan) -> Answer:
    await morgan.upload(f"{TEXT}\n{uuid4()}")
    return Answer(200, {})


async def replaced(morgan: Morgan) -> Answer:
    """A new version of a document: the older one leaves the index."""
    await morgan.upload("old", "/docs/one.txt")
    await morgan.until(morgan.whole)
    await morgan.upload("new", "/docs/one.txt")
    return Answer(200, {})


async def deleted(morgan: Morgan) -> Answer:
    """A document is deleted, and its original goes when that can be done."""
    answer = await morgan.upload("old", "/docs/one.txt")
    await morgan.until(morgan.whole)
    return await morgan.ask("DELETE", f"/v1/documents/{answer.body['results'][0]['document']['id']}")


async def unembedded(morgan: Morgan) -> Answer:
    """A document comes while the embedder refuses; its embeddings are filled in later."""
    morgan.faults.next["Embedder.embed_passages"] = deque([Overloaded()] * 30)
    return await ingest(morgan)


async def damaged(morgan: Morgan) -> Answer:
    """Its own fault: it is failed, as soon as that can be written down."""
    await morgan.upload("damaged")
    async with asyncio.timeout(20):
        while not await morgan.made.library.documents(state=DocumentState.FAILED) and not morgan.faults.met:
            await asyncio.sleep(0.01)
    return Answer(200, {})


async def counted(morgan: Morgan) -> Answer:
    """Documents are not counted; all else is told."""
    seen = status.StatusObserver.__new__(status.StatusObserver)
    seen._library = cast("Any", morgan.api.backend.library)
    return Answer(200, await seen._documents(5.0))


ASK = request("POST", "/v1/query", json=QUESTION)
SEARCH = request("POST", "/v1/search", json=QUESTION)
DELETE = request("DELETE", "/v1/documents/{document}")
EMBED = request("POST", "/v1/embeddings", json={"model": "hash", "input": ["a"]})
RANK = request("POST", "/v1/rerank", json={"model": "words", "query": "a", "documents": ["a"]})
MODELS = request("GET", "/v1/models")


TABLE: dict[str, tuple[Row, ...]] = {
    "Chat.info": (Row(ASK, no_model), Row(MODELS, without("large"))),
    "Chat.stream": (Row(ASK, no_model),),
    "Chat.count_tokens": (Row(request("POST", "/v1/query", json=LONG), no_model),),
    "Embedder.model": (Row(EMBED, refused), Row(MODELS, without("hash"))),
    "Embedder.embed_query": (Row(SEARCH, note(retrieve.NOTICE_KEYWORDS)), Row(ASK, note(retrieve.NOTICE_KEYWORDS))),
    "Embedder.embed_passages": (Row(EMBED, refused), Row(ingest)),
    "Reranker.model": (Row(RANK, refused), Row(MODELS, without("words"))),
    "Reranker.scores": (
        Row(RANK, refused),
        Row(SEARCH, note(retrieve.NOTICE_UNRANKED)),
        Row(ASK, note(retrieve.NOTICE_UNRANKED)),
    ),
    "Vectors.search": (Row(SEARCH, note(retrieve.NOTICE_FULL_TEXT)), Row(ASK, note(retrieve.NOTICE_FULL_TEXT))),
    "Vectors.upsert": (Row(ingest),),
    "Vectors.delete_documents": (Row(DELETE, unharmed), Row(replaced)),
    "Vectors.counts": (Row(ingest),),
    "Extractor.extract": (Row(ingest),),
    "Objects.put_file": (Row(lambda morgan: morgan.upload("new"), refused),),
    "ObjectFiles.path": (),  # of the host that stores them
    "Originals.reading": (Row(ingest),),
    "Objects.keep": (Row(lambda morgan: morgan.upload("new"), refused),),
    "Objects.mark": (Row(DELETE, refused), Row(replaced)),
    "Objects.delete": (Row(DELETE, refused), Row(deleted)),
    "Objects.keys": (Row(ingest),),
    "Cache.get": (),  # nobody asks it yet
    "Cache.set": (),
    "Cache.drop": (Row(DELETE, unharmed), Row(ingest)),
    "History.turn": (Row(turn(LONG["text"]), kept),),
    "History.store_message": (Row(turn("Hello!"), kept),),
    "History.store_answer": (Row(turn("Hello!"), refused),),
    "History.since_summary": (Row(turn("Hello!"), refused),),
    "History.messages": (Row(request("GET", "/v1/conversations/{conversation}/messages"), refused),),
    "History.conversation": (Row(request("GET", "/v1/conversations/{conversation}"), refused),),
    "History.conversations": (Row(request("GET", "/v1/conversations"), refused),),
    "History.latest_conversation": (Row(request("POST", "/v1/feedback", json={"rating": 5}), refused),),
    "History.set_summary": (Row(long_turn, unharmed),),
    "History.delete_conversation": (Row(request("DELETE", "/v1/conversations/{conversation}"), refused),),
    "History.add_feedback": (Row(request("POST", "/v1/feedback", json={"rating": 5}), refused),),
    "Library.document": (
        Row(request("GET", "/v1/documents/{document}"), refused), Row(ASK, note(degrade.NOTICE_SEARCH)),
    ),
    "Library.documents": (Row(request("GET", "/v1/documents"), refused), Row(ingest)),
    "Library.states": (
        Row(counted, lambda answer, _: answer.body == {}), Row(lambda morgan: morgan.upload("new"), refused),
    ),
    "Library.add_many": (Row(lambda morgan: morgan.upload("new"), refused),),
    "Library.start": (Row(ingest),),
    "Library.set_state": (Row(damaged),),
    "Library.complete_many": (Row(ingest),),
    "Library.delete": (Row(DELETE, refused),),
    "Library.chunks": (Row(ingest, with_=("Vectors.upsert",)),),
    "Library.chunks_by_id": (Row(SEARCH, refused), Row(ASK, note(degrade.NOTICE_SEARCH))),
    "Library.fine_of": (Row(SEARCH, refused), Row(ASK, note(degrade.NOTICE_SEARCH))),
    "Library.live": (Row(ingest),),
    "Library.set_embeddings": (Row(unembedded),),
    "Library.without_embeddings": (Row(ingest),),
    "Library.keyword_search": (
        Row(SEARCH, refused, with_=("Vectors.search",)),
        Row(ASK, note(degrade.NOTICE_SEARCH), with_=("Vectors.search",)),
    ),
    "Library.object_used": (Row(DELETE, refused), Row(replaced)),
    "Library.object_keys": (Row(replaced),),
    "Library.versions": (Row(request("GET", "/v1/documents/{document}/versions"), refused),),
    "Library.retire": (Row(ingest),),
    "Examiner.examine": (),  # a host that does not answer is what it is asked for: tests/unit/admin/test_doctor.py
    "Examiner.mend": (),
}  # fmt: skip


def methods() -> Iterator[str]:
    """Every method of every port there is."""
    for name, port in vars(ports).items():
        if inspect.isclass(port) and getattr(port, "_is_protocol", False) and port.__module__ == ports.__name__:
            yield from (f"{name}.{one}" for one in vars(port) if not one.startswith("_"))


def errors() -> list[NotHereNow]:
    """One of every kind that there is anywhere."""
    for module in pkgutil.walk_packages(morgand.__path__, "morgand."):
        if not module.name.endswith((".__main__", ".env")):  # programs
            importlib.import_module(module.name)
    found: list[type[NotHereNow]] = [NotHereNow]
    for one in found:
        found += [kind for kind in one.__subclasses__() if kind not in found]
    return [made(kind) for kind in found]


def made(kind: type[NotHereNow]) -> NotHereNow:
    error = kind.__new__(kind)
    NotHereNow.__init__(error, f"{kind.__name__}: it is not here.")
    return error


ERRORS = errors()


@pytest.fixture
async def morgan(tmp_path: Path) -> AsyncIterator[Morgan]:
    (tmp_path / "spool").mkdir()
    faults, made = away.Faults(), Made(WordVectors(), HandClock())

    def faulty(database: Database) -> tuple[ports.History, ports.Library]:
        made.history, made.library = of(database)
        return away.port(ports.History, made.history, faults), away.port(ports.Library, made.library, faults)

    def make(history: ports.History, library: ports.Library, spool: Path) -> Backend:
        return made.backend(make_backend(history, library, spool), faults)

    async with served(tmp_path, faulty, make) as api:
        await made.outbox.open()
        yield Morgan(api, faults, made)
        await made.assistant.close()


@asynccontextmanager
async def running(ingestor: Ingestor) -> AsyncIterator[None]:
    task = asyncio.create_task(ingestor.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settled(morgan: Morgan) -> None:
    """A document to find and a conversation to read, while everything is there."""
    morgan.faults.always.clear()
    if morgan.document not in await morgan.made.library.live():
        answer = await morgan.upload(TEXT)
        morgan.document = answer.body["results"][0]["document"]["id"]
        await morgan.until(morgan.whole)
    if morgan.conversation not in [one.id for one in await morgan.made.history.conversations()]:
        morgan.conversation = (await turn("Hello!")(morgan)).body["conversation"]


def test_no_port_and_no_method_is_forgotten() -> None:
    assert set(TABLE) == set(methods())


@pytest.mark.parametrize("method", [method for method, rows in TABLE.items() if rows])
async def test_what_is_not_here_now_costs_what_the_table_says(morgan: Morgan, method: str) -> None:
    async with running(morgan.made.ingestor):
        for row in (one for one in TABLE[method] if one.expect is not None):
            for error in ERRORS:
                await settled(morgan)
                before = morgan.faults.met
                morgan.faults.always = dict.fromkeys((method, *row.with_), error)
                answer = await row.act(morgan)
                assert morgan.faults.met > before, "it was not asked"
                assert row.expect is not None
                assert row.expect(answer, error), f"{type(error).__name__}: {answer}"


@pytest.mark.parametrize("method", [method for method, rows in TABLE.items() if any(not one.expect for one in rows)])
async def test_no_document_fails_for_what_is_not_here_now(morgan: Morgan, method: str) -> None:
    """It meets every such error, more often than it is tried at once, and is completed, embedded and found."""

    async def met_and_whole() -> bool:
        return morgan.faults.met > 0 and await morgan.whole()

    (row,) = (one for one in TABLE[method] if one.expect is None)
    for one in (method, *row.with_):
        morgan.faults.next[one] = deque((ERRORS * 2)[: max(len(ERRORS), ATTEMPTS + 1)])
    async with running(morgan.made.ingestor):
        await row.act(morgan)
        await morgan.until(met_and_whole)
