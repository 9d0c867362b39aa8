"""The assistant's ports in memory: scripted model, word-counting reranker, index, folder of originals."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from morgand.assistant.delivery import Delivery
from morgand.assistant.rag.ingest import Ingestor
from morgand.assistant.rag.retrieve import Retrieved
from morgand.assistant.text import content_words, sentences
from morgand.base.clock import SystemClock
from morgand.base.errors import MorganError, NotFound, Unavailable, Unreadable
from morgand.state.assistant import Chunk, Document, Extracted, Level, Passage
from morgand.state.ports import ChatDelta, ChatInfo, ChatMessage, ChatOptions, SearchLegs, Upload, VectorPoint
from morgand.storage.outbox import Outbox

SMALL = ChatInfo("tiny", context_tokens=2048, prompt_tokens=512, small=True)
LARGE = ChatInfo("large", context_tokens=8192, prompt_tokens=2048, small=False)


class ScriptedChat:
    """Says the next of ``answers`` (the last one again and again); an exception in it is raised in the middle."""

    def __init__(self, *answers: str | Exception, info: ChatInfo = LARGE, finish: str = "stop") -> None:
        self.answers = list(answers)
        self.asked: list[list[ChatMessage]] = []
        self.closed = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._info = info
        self._finish = finish

    async def info(self) -> ChatInfo:
        if not self.answers:
            raise Unavailable("There is no LLM.")
        return self._info

    async def stream(self, messages: Sequence[ChatMessage], options: ChatOptions) -> AsyncGenerator[ChatDelta, None]:
        self.asked.append(list(messages))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        try:
            if isinstance(answer, Exception):
                yield ChatDelta("Half an")
                raise answer
            words = answer.split(" ")
            for number, word in enumerate(words):
                yield ChatDelta(word if number == 0 else f" {word}")
                await self.gate.wait()
            yield ChatDelta("", self._finish, 10, len(words))
        finally:
            self.closed += 1

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text) // 4 + 1 for text in texts]


@dataclass
class FixedRetriever:
    """Always finds the same passages."""

    passages: tuple[Passage, ...] = ()
    notices: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)

    async def search(self, text: str, limit: int, *, rerank: bool, candidates: int, budget_s: float) -> Retrieved:
        self.asked.append(text)
        return Retrieved(self.passages[:limit], self.notices)


class WordReranker:
    """Scores by shared words, on the scale of cross-encoder logits."""

    async def model(self) -> str:
        return "words"

    async def scores(self, query: str, texts: Sequence[str], *, budget_s: float) -> list[float | None]:
        asked = content_words(query)
        return [12.0 * len(asked & content_words(text)) / max(1, len(asked)) - 8.0 for text in texts]


def passage(text: str, *, title: str = "Boiler manual", place: str = "page 3", document: str = "d1") -> Passage:
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return Passage(digest, document, title, place, text, 1.0, sentences(text)[0] if sentences(text) else None)


def nothing_waits() -> Delivery:
    """Of a host whose database is always there: a folder for messages is never needed."""
    return Delivery(Outbox(Path("/nowhere"), "atlas"), lambda: 60.0, SystemClock())


class HashEmbedder:
    """Eight bytes of a text's digest; counts batches; can be away."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.away = False

    async def model(self) -> str:
        return "hash"

    async def embed_query(self, text: str) -> bytes:
        return (await self.embed_passages([text]))[0]

    async def embed_passages(self, texts: Sequence[str]) -> list[bytes]:
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("There is no embedder.")
        self.batches.append(list(texts))
        return [hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8] for text in texts]


class MemoryVectors:
    """Points by chunk id; can be away."""

    def __init__(self) -> None:
        self.points: dict[str, VectorPoint] = {}
        self.away = False

    async def upsert(self, points: Sequence[VectorPoint]) -> None:
        self._here()
        self.points.update({point.chunk: point for point in points})

    async def delete_documents(self, documents: Sequence[str]) -> None:
        self._here()
        gone = set(documents)
        self.points = {chunk: point for chunk, point in self.points.items() if point.document not in gone}

    async def search(self, text: str, embedding: bytes | None, *, limit: int) -> SearchLegs:
        self._here()
        return SearchLegs({}, {})

    async def counts(self) -> dict[str, int]:
        self._here()
        found: dict[str, int] = {}
        for point in self.points.values():
            found[point.document] = found.get(point.document, 0) + 1
        return found

    def _here(self) -> None:
        if self.away:
            raise Unavailable("There is no index.")


class LineExtractor:
    """A text file: one coarse chunk, every line a medium and a fine one. A file with 'damaged' in it is refused."""

    async def extract(self, files: Sequence[tuple[Path, str]]) -> list[Extracted | MorganError]:
        return [self._read(path, name) for path, name in files]

    def _read(self, path: Path, name: str) -> Extracted | MorganError:
        text = path.read_text("utf-8")
        if "damaged" in text:
            return Unreadable(f"{name} is damaged.")
        lines = text.splitlines()
        chunks = [Chunk(Level.COARSE, 0, None, text, 1, "")]
        for index, line in enumerate(lines):
            chunks.append(Chunk(Level.MEDIUM, index, 0, line, 1, f"line {index + 1}"))
            chunks.append(Chunk(Level.FINE, index, index, line, 1, f"line {index + 1}"))
        return Extracted(name, "text/plain", tuple(chunks))


class FolderObjects:
    """A folder of files named by their digest; can be away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.away = False
        self._marks: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)

    async def put_file(self, path: Path) -> str:
        self._here()
        key = hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copyfile(path, self.folder / key)
        self._marks.pop(key, None)
        return key

    async def path(self, key: str) -> Path:
        self._here()
        if not (self.folder / key).exists():
            raise NotFound(f"There is no object {key}.")
        return self.folder / key

    @asynccontextmanager
    async def reading(self, key: str) -> AsyncIterator[Path]:
        yield await self.path(key)

    async def keep(self, keys: Sequence[str]) -> list[str]:
        self._here()
        for key in keys:
            self._marks.pop(key, None)
        return [key for key in keys if not (self.folder / key).exists()]

    async def mark(self, keys: Sequence[str]) -> str:
        self._here()
        mark = uuid4().hex
        self._marks.update(dict.fromkeys(keys, mark))
        return mark

    async def delete(self, key: str, mark: str = "") -> None:
        self._here()
        if self._marks.get(key) == mark:
            (self.folder / key).unlink(missing_ok=True)

    async def keys(self) -> list[str]:
        self._here()
        return [file.name for file in self.folder.iterdir()]

    def _here(self) -> None:
        if self.away:
            raise Unavailable("No host performs objects.")


async def accept(ingestor: Ingestor, path: Path, *, name: str, source: str, machine: str = "") -> tuple[Document, bool]:
    """One file into the ingestor; a refusal is raised."""
    [taken] = await ingestor.accept([Upload(path, name, source, machine)])
    if isinstance(taken, MorganError):
        raise taken
    return taken


class MemoryCache:
    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None:
        self.values[key] = value

    async def drop(self, prefix: str) -> None:
        self.values = {key: value for key, value in self.values.items() if not key.startswith(prefix)}
