"""From extracted chunks to what is stored and indexed (pure): ids, parents, index points.

Chunk ids are uuid5 of the document's id and the chunk's level and index, so that doing the work again after a
crash writes the same rows and points, never doubled ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID, uuid5

from morgand.state.assistant import Chunk, Level, StoredChunk
from morgand.state.ports import VectorPoint

ABOVE = {Level.FINE: Level.MEDIUM, Level.MEDIUM: Level.COARSE}


def chunk_id(document: str, level: Level, index: int) -> str:
    """The id of a chunk, the same every time."""
    return str(uuid5(UUID(document), f"{level.value}/{index}"))


def stored_chunks(document: str, chunks: Sequence[Chunk], vectors: Mapping[str, bytes]) -> list[StoredChunk]:
    """The rows of a document. ``vectors``: embedding by text; a text without one is stored without."""
    return [
        StoredChunk(
            id=chunk_id(document, chunk.level, chunk.index),
            document=document,
            chunk=chunk,
            parent_id=_parent_id(document, chunk),
            embedding=vectors.get(chunk.text),
        )
        for chunk in chunks
    ]


def texts_to_embed(chunks: Sequence[Chunk]) -> list[str]:
    """Every different text once (a short document is one text at all three levels), longest first.

    Sorted by length so that a batch holds texts of like length: the engine pads a batch to its longest.
    """
    return sorted(dict.fromkeys(chunk.text for chunk in chunks), key=len, reverse=True)


def index_points(chunks: Sequence[StoredChunk]) -> list[VectorPoint]:
    """The index points of whole documents: every chunk with the chunks that enclose it."""
    parents = {stored.id: stored.parent_id for stored in chunks}
    return [_point(stored, parents) for stored in chunks]


def _point(stored: StoredChunk, parents: Mapping[str, str | None]) -> VectorPoint:
    level, parent = stored.chunk.level, stored.parent_id
    medium: str | None = None
    coarse = stored.id
    if level is Level.MEDIUM:
        medium, coarse = stored.id, parent or stored.id
    elif level is Level.FINE:
        medium = parent
        coarse = parents.get(parent or "") or parent or stored.id
    return VectorPoint(
        chunk=stored.id,
        document=stored.document,
        level=level,
        coarse=coarse,
        medium=medium,
        text=stored.chunk.text,
        embedding=stored.embedding,
    )


def _parent_id(document: str, chunk: Chunk) -> str | None:
    if chunk.parent is None or chunk.level not in ABOVE:
        return None
    return chunk_id(document, ABOVE[chunk.level], chunk.parent)
