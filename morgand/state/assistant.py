"""The assistant's values: conversations, documents and passages.

Times are aware UTC datetimes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


class Speaker(StrEnum):
    """Who said a message."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Message:
    id: str
    conversation: str
    speaker: Speaker
    text: str
    tokens: int
    created: datetime
    citations: tuple[Citation, ...] = ()
    notices: tuple[str, ...] = ()  # degradations told to the person


@dataclass(frozen=True, slots=True)
class Conversation:
    id: str
    title: str
    created: datetime
    updated: datetime
    messages: int
    user: str | None = None
    summary: str | None = None
    summary_through: str | None = None  # id of the last message the summary covers


@dataclass(frozen=True, slots=True)
class Turn:
    """A message and its answer. ``answer`` is None until it is stored; a note never gets one."""

    id: str
    conversation: str
    message: Message
    answer: Message | None = None


class DocumentState(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class Identity(NamedTuple):
    """What makes two uploads versions of one document. Whoever tells people apart adds their owner here."""

    machine: str
    source: str


@dataclass(frozen=True, slots=True)
class Document:
    """``machine`` is the stable id of the machine or key that sent it, '' where none is known; its name is for people.
    ``replaced`` says since when this is an earlier version: kept, and neither listed nor searched.
    """

    id: str
    name: str
    source: str  # where it came from; the same source again of the same machine replaces
    mime: str
    size_bytes: int
    sha256: str
    object_key: str
    state: DocumentState
    created: datetime
    updated: datetime
    chunks: int = 0
    embeddings: int = 0
    error: str | None = None
    title: str | None = None
    machine: str = ""
    machine_name: str = ""
    replaced: datetime | None = None

    @property
    def identity(self) -> Identity:
        return Identity(self.machine, self.source)


class Level(StrEnum):
    """Chunk sizes. Each fine chunk lies in one medium chunk, each medium one in one coarse one."""

    COARSE = "coarse"
    MEDIUM = "medium"
    FINE = "fine"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document's text. ``index`` counts within the level; ``parent`` is the index of the
    enclosing chunk one level up (None for coarse). ``place`` says where, for people: ``page 3``,
    ``Heating > Pressure``.
    """

    level: Level
    index: int
    parent: int | None
    text: str
    tokens: int
    place: str


@dataclass(frozen=True, slots=True)
class Extracted:
    """What extraction made of one file."""

    title: str | None
    mime: str
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as stored. ``embedding`` is little-endian float32, or None if no embedder was there."""

    id: str
    document: str
    chunk: Chunk
    parent_id: str | None
    embedding: bytes | None


@dataclass(frozen=True, slots=True)
class Passage:
    """A ranked piece of a document: a medium chunk, its document and place, and its best fine chunk as ``quote``."""

    chunk: str
    document: str
    title: str
    place: str
    text: str
    score: float
    quote: str | None = None


@dataclass(frozen=True, slots=True)
class Citation:
    """A checked reference from an answer to a passage it was given. ``number`` is the [n] in the answer."""

    number: int
    document: str
    title: str
    place: str
    quote: str
    chunk: str
