"""Documents, chunks and a clock for tests of storage."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from morgand.state.assistant import Chunk, Document, DocumentState, Extracted, Level, StoredChunk
from morgand.state.ports import DocumentResult, Library


class HandClock:
    """Stands still until it is turned, in either direction."""

    def __init__(self) -> None:
        self.wall = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.elapsed_s = 0.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.elapsed_s

    async def sleep(self, delay_s: float) -> None:
        self.turn(delay_s)

    def turn(self, by_s: float) -> None:
        self.wall += timedelta(seconds=by_s)
        self.elapsed_s += max(by_s, 0.0)


def new_document(source: str = "/docs/boiler.pdf", content: str = "one", machine: str = "") -> Document:
    digest = hashlib.sha256(content.encode()).hexdigest()
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
    return Document(
        id=str(uuid4()), name=source.rpartition("/")[2], source=source, mime="application/pdf",
        size_bytes=len(content), sha256=digest, object_key=f"{digest[:2]}/{digest[2:4]}/{digest}",
        state=DocumentState.PENDING, created=moment, updated=moment, machine=machine,
    )  # fmt: skip


def tree(document: str, texts: Sequence[str], *, embedding: bytes | None = b"\0" * 8) -> list[StoredChunk]:
    """One coarse chunk; a medium one with one fine one for each text."""
    coarse = StoredChunk(
        str(uuid4()), document, Chunk(Level.COARSE, 0, None, " ".join(texts), 10, "page 1"), None, embedding
    )
    chunks = [coarse]
    for index, text in enumerate(texts):
        medium = Chunk(Level.MEDIUM, index, 0, text, 5, f"page {index + 1}")
        stored = StoredChunk(str(uuid4()), document, medium, coarse.id, embedding)
        fine = Chunk(Level.FINE, index, index, text, 5, f"page {index + 1}")
        chunks += [stored, StoredChunk(str(uuid4()), document, fine, stored.id, embedding)]
    return chunks


def extracted(title: str | None = "The boiler", mime: str = "application/pdf") -> Extracted:
    return Extracted(title, mime, ())


async def added(library: Library, document: Document) -> tuple[Document, bool]:
    """The document as it is stored, and whether it is new."""
    return (await library.add_many([document]))[0]


async def completed(
    library: Library, document: str, extraction: Extracted, chunks: Sequence[StoredChunk]
) -> list[str] | None:
    """The ids of those replaced; None for a document that is gone."""
    done = await library.complete_many([DocumentResult(document, extraction.title, extraction.mime, tuple(chunks))])
    return done.get(document)
