"""What the assistant needs, as Protocols. The daemon fills them; tests fill them with fakes.

Embeddings travel as bytes (little-endian float32, dimension x 4 bytes) so that the daemon needs no
numeric library. Every method may raise ``NotHereNow``: nobody serves it, it moves, it has too much to do.
What each of them then costs a person is the table of ``tests/unit/test_not_here_now.py``.

Hosts of two versions call each other while a cluster is updated. An argument that is added to a method has a default,
comes last and is marked ``LATER``; a field that is added to a value has a default.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Protocol

from morgand.base.errors import MorganError
from morgand.state.assistant import (
    Citation,
    Conversation,
    Document,
    DocumentState,
    Extracted,
    Level,
    Message,
    StoredChunk,
    Turn,
)
from morgand.state.findings import Examination, FindingKind

LATER: Final = "later"  # in ``Annotated``: an older host does without this argument, and is called without it


@dataclass(frozen=True, slots=True)
class ChatMessage:
    role: str  # system | user | assistant
    content: str


@dataclass(frozen=True, slots=True)
class ChatOptions:
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """A piece of a streamed answer. The last one carries ``finish`` (``stop`` or ``length``) and token counts."""

    text: str
    finish: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ChatInfo:
    model: str
    context_tokens: int  # what one request may hold, prompt and answer together
    prompt_tokens: int  # budget for passages
    small: bool  # too small to be trusted with free phrasing: answers are checked against the passages


class Chat(Protocol):
    async def info(self) -> ChatInfo: ...

    def stream(self, messages: Sequence[ChatMessage], options: ChatOptions) -> AsyncIterator[ChatDelta]: ...

    async def count_tokens(self, texts: Sequence[str]) -> list[int]: ...


class Embedder(Protocol):
    async def model(self) -> str: ...

    async def embed_query(self, text: str) -> bytes: ...

    async def embed_passages(self, texts: Sequence[str]) -> list[bytes]: ...


class Reranker(Protocol):
    async def model(self) -> str: ...

    async def scores(self, query: str, texts: Sequence[str], *, budget_s: float) -> list[float | None]:
        """Relevance per text, higher is better; None where the time budget ran out."""
        ...


@dataclass(frozen=True, slots=True)
class VectorPoint:
    """One chunk in the index."""

    chunk: str
    document: str
    level: Level
    coarse: str  # id of the enclosing coarse chunk (itself for coarse)
    medium: str | None  # id of the enclosing medium chunk (itself for medium, None for coarse)
    text: str  # for the BM25 leg; not stored
    embedding: bytes | None


@dataclass(frozen=True, slots=True)
class VectorHit:
    chunk: str
    document: str
    level: Level
    coarse: str
    medium: str | None
    score: float


@dataclass(frozen=True, slots=True)
class SearchLegs:
    """Ranked candidates per leg, best first; a leg is empty when its input was missing."""

    dense: dict[Level, list[VectorHit]]
    keyword: dict[Level, list[VectorHit]]


class Vectors(Protocol):
    async def upsert(self, points: Sequence[VectorPoint]) -> None: ...

    async def delete_documents(self, documents: Sequence[str]) -> None: ...

    async def search(self, text: str, embedding: bytes | None, *, limit: int) -> SearchLegs: ...

    async def counts(self) -> dict[str, int]:
        """Points per document id: what reconciliation with the database compares."""
        ...


class Examiner(Protocol):
    """One host, as it looks through itself. Other hosts ask it in no epoch."""

    async def examine(self, hosts: Sequence[str]) -> Examination:
        """``hosts``: ids of those that it has to reach."""
        ...

    async def mend(self, kind: FindingKind) -> None:
        """Repair what findings of this kind are about, as far as this host can: who may read its files; originals
        that no document has, and the index, where documents are processed. Raises NotHereNow."""
        ...


class Extractor(Protocol):
    async def extract(self, files: Sequence[tuple[Path, str]]) -> list[Extracted | MorganError]:
        """Read files, each given with the name people call it by; for each what it says, or why it cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that somebody sent, as it lies in the spool folder."""

    path: Path
    name: str  # to be shown
    source: str  # where it came from; the same source again of the same machine replaces
    machine: str = ""
    machine_name: str = ""


class Objects(Protocol):
    """Content-addressed: the key is derived from the sha256 of the content."""

    async def put_file(self, path: Path) -> str:
        """Store a copy of a file's content durably and return its key. Takes its mark off."""
        ...

    async def keep(self, keys: Sequence[str]) -> list[str]:
        """Take the marks off; returns the keys that nothing is stored under. What is there stays until it is marked
        anew."""
        ...

    async def mark(self, keys: Sequence[str]) -> str:
        """Mark for removal, before it is looked whether somebody needs it: the mark that ``delete`` asks for."""
        ...

    async def delete(self, key: str, mark: Annotated[str, LATER] = "") -> None:
        """Remove what still bears this mark; what was stored, kept or marked anew since stays."""
        ...

    async def keys(self) -> list[str]:
        """Everything that is stored: what a sweep compares with the database."""
        ...


class ObjectFiles(Objects, Protocol):
    """Objects on this host; to other hosts they travel as files, not as results."""

    async def path(self, key: str) -> Path:
        """The file that has the content, for reading only. Raises NotFound."""
        ...


class Originals(Objects, Protocol):
    """Objects wherever they are."""

    def reading(self, key: str) -> AbstractAsyncContextManager[Path]:
        """A local file with the content, for reading only, while the block lasts. Raises NotFound, StorageFull."""
        ...


class Cache(Protocol):
    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None: ...

    async def drop(self, prefix: str) -> None: ...


class History(Protocol):
    """Conversations and their messages. Every write is durable when the call returns."""

    async def turn(self, turn_id: str) -> Turn | None: ...

    async def store_message(
        self, turn_id: str, conversation: str | None, text: str, *, tokens: int, user: str | None,
        created: datetime | None = None,
    ) -> Turn:  # fmt: skip
        """Store the person's message under the turn's id; creates the conversation when it is new.

        ``conversation`` None: where the turn is stored already, else a new one. The same id again returns what is
        stored. The same id with another text or conversation raises Conflict. ``created``: when it was said, if it
        waited in an outbox since.
        """
        ...

    async def store_answer(
        self, turn_id: str, text: str, *, tokens: int, citations: Sequence[Citation], notices: Sequence[str]
    ) -> Turn:
        """Store the answer of a turn. If one is stored already, that one is returned and nothing changes."""
        ...

    async def messages(self, conversation: str, *, after: str | None = None, limit: int = 1000) -> list[Message]: ...

    async def since_summary(self, conversation: str, *, limit: int = 1000) -> tuple[Conversation, list[Message]]:
        """A conversation and its first messages after those its summary covers, in one reading."""
        ...

    async def conversation(self, conversation: str) -> Conversation: ...

    async def conversations(self, *, limit: int = 100, offset: int = 0) -> list[Conversation]: ...

    async def latest_conversation(self, user: str | None) -> Conversation | None:
        """The conversation last used by this user (None: by anybody)."""
        ...

    async def set_summary(self, conversation: str, summary: str, through: str) -> None: ...

    async def delete_conversation(self, conversation: str) -> None: ...

    async def add_feedback(
        self, conversation: str, message: str | None, *, rating: int | None, comment: str | None, kind: str,
        feedback_id: Annotated[str | None, LATER] = None,
    ) -> str:  # fmt: skip
        """Returns the feedback's id. The same id again stores nothing twice; with other content it raises Conflict."""
        ...


@dataclass(frozen=True, slots=True)
class DocumentResult:
    """A document that is ready to be found: what extraction told of it, and all its chunks."""

    document: str
    title: str | None
    mime: str
    chunks: tuple[StoredChunk, ...]


class Library(Protocol):
    """Documents and their chunks: the source of truth for retrieval."""

    async def document(self, document: str) -> Document: ...

    async def documents(
        self, *, state: DocumentState | None = None, limit: int = 1000, offset: int = 0,
        earlier: Annotated[bool, LATER] = False,
    ) -> list[Document]:  # fmt: skip
        """By name; with ``earlier`` versions too."""
        ...

    async def states(self) -> dict[str, int]:
        """Documents per state."""
        ...

    async def add_many(self, documents: Sequence[Document]) -> list[tuple[Document, bool]]:
        """Store new document rows, in this order and in one transaction. If the newest document of the same machine and
        source (not failed) has this content, it is returned with False; else the new row with True. A document of this
        source and content that is of no machine yet becomes the machine's, and is returned with False."""
        ...

    async def start(self, documents: Sequence[str]) -> list[Document]:
        """Mark documents as being processed, in one transaction; those that are gone by now are left out."""
        ...

    async def set_state(self, document: str, state: DocumentState, error: str | None = None) -> None: ...

    async def complete_many(self, completions: Sequence[DocumentResult]) -> dict[str, list[str]]:
        """For each, in this order and in one transaction: store the chunks (and their full-text rows), mark the
        document completed, and make every older document of the same machine and source an earlier version.
        Returns the ids of those replaced, by document. Documents that were deleted or overtaken in the meantime are
        left out."""
        ...

    async def delete(self, document: str) -> Document:
        """With its earlier versions; of an earlier version, that one alone."""
        ...

    async def versions(self, document: str) -> list[Document]:
        """The document and its earlier versions, newest first; the same for the id of any of them."""
        ...

    async def retire(self, *, keep: int, days: int, limit: int) -> int:
        """Delete earlier versions, ``limit`` at most: those not among the last ``keep`` of a document, and those that
        were replaced more than ``days`` ago. Returns how many there were."""
        ...

    async def chunks(self, document: str) -> list[StoredChunk]: ...

    async def chunks_by_id(self, ids: Sequence[str]) -> dict[str, StoredChunk]: ...

    async def fine_of(self, medium: Sequence[str]) -> dict[str, list[StoredChunk]]:
        """The fine chunks of each medium chunk, in reading order."""
        ...

    async def live(self) -> dict[str, int]:
        """Completed documents and their number of chunks: what the index must hold."""
        ...

    async def set_embeddings(self, embeddings: dict[str, bytes]) -> None: ...

    async def without_embeddings(self, limit: int) -> list[StoredChunk]: ...

    async def keyword_search(self, text: str, level: Level, *, limit: int) -> list[tuple[str, float]]:
        """Full-text search (FTS5 bm25): chunk ids and scores, best first. Any text is legal input."""
        ...

    async def object_used(self, key: str) -> bool: ...

    async def object_keys(self, documents: Sequence[str], *, earlier: Annotated[bool, LATER] = False) -> dict[str, str]:
        """The object key of each document, deleted ones included; with ``earlier`` those of earlier versions too."""
        ...
