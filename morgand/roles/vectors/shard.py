"""One level of the index on disk: a Qdrant Edge shard with dense and BM25 vectors. Blocking, safe for threads.

Each level has a shard of its own, so that BM25's document frequencies and lengths are those of like chunks. The
index is a copy of the database: a shard that cannot be read is set aside and begun anew.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import numpy as np
import qdrant_edge as qdrant

from morgand.base.errors import EngineError, InvalidInput, StorageFull
from morgand.roles.vectors.wire import WireHit, WirePoint
from morgand.state.assistant import Level

DENSE = "dense"
KEYWORD = "bm25"
PAYLOAD = ["document", "coarse", "medium"]

# k1 1.5 and b 0.75 did best on two collections; lengths are near those of full chunks without their stop words
BM25_K1 = 1.5
BM25_B = 0.75
AVERAGE_TERMS = {Level.COARSE: 200.0, Level.MEDIUM: 90.0, Level.FINE: 25.0}

NO_GRAPH = 0  # exact search takes 11 to 15 ms over 100,000 chunks; building a graph keeps searches waiting for seconds
LOCKED = "WouldBlock"  # another process has the shard open
NO_SPACE = ("os error 28", "os error 30", "os error 122", "No space left", "not enough space")
NOT_ITS_FAULT = (LOCKED, *NO_SPACE, "os error 12", "os error 13", "os error 23", "os error 24")
LOCK_WAIT_S = 5.0
CRASHES = 2  # openings that ended in a crash before the shard is no longer trusted


class Shard:
    """Chunks of one level."""

    def __init__(self, folder: Path, level: Level, size: int) -> None:
        """Open or create. Raises EngineError when it is in use elsewhere, StorageFull when nothing can be written."""
        self.level = level
        self._size = size
        self._terms = qdrant.Bm25(
            qdrant.Bm25Config(k=BM25_K1, b=BM25_B, avg_len=AVERAGE_TERMS[level], language="english", ascii_folding=True)
        )
        self._writing = threading.Lock()
        self.set_aside: Path | None = None
        self._shard = self._open(folder)
        with _translated():
            self._shard.optimize()  # gives back the room of deleted chunks; at start, because searches would wait

    def points(self) -> int:
        with _translated():
            return self._shard.info().points_count

    def upsert(self, points: Sequence[WirePoint]) -> None:
        """Add or replace; on disk when it returns. Raises InvalidInput for a bad id or embedding, StorageFull."""
        rows = [self._row(point) for point in points]
        with self._writing, _translated():
            self._shard.update(qdrant.UpdateOperation.upsert_points(rows))
            self._shard.flush()

    def delete(self, documents: Sequence[str]) -> None:
        """Remove every chunk of these documents; on disk when it returns."""
        condition = qdrant.FieldCondition("document", match=qdrant.MatchAny(list(documents)))
        with self._writing, _translated():
            self._shard.update(qdrant.UpdateOperation.delete_points_by_filter(qdrant.Filter(must=[condition])))
            self._shard.flush()

    def search(self, text: str, embedding: bytes | None, limit: int) -> tuple[list[WireHit], list[WireHit]]:
        """Dense hits (none without an embedding) and keyword hits, best first."""
        requests = [_request(self._terms.embed_query(text), KEYWORD, limit)]
        if embedding is not None:
            requests.append(_request(self._vector(embedding), DENSE, limit))
        with _translated():
            found = self._shard.query_batch(qdrant.QueryBatchRequest(requests))
        keyword, dense = found[0], found[1] if len(found) > 1 else []
        return [_hit(point) for point in dense], [_hit(point) for point in keyword]

    def counts(self) -> dict[str, int]:
        """Points per document."""
        with _translated():
            total = self._shard.info().points_count
            facet = self._shard.facet(qdrant.FacetRequest("document", limit=total + 1, exact=True))
        return {str(hit.value): hit.count for hit in facet.hits if hit.count}

    def close(self) -> None:
        with self._writing, _translated():
            self._shard.flush()
            self._shard.close()

    def _row(self, point: WirePoint) -> qdrant.Point:
        vectors: dict[str, qdrant.NamedVector] = {KEYWORD: self._terms.embed_document(point.text)}
        if point.embedding is not None:
            vectors[DENSE] = self._vector(point.embedding)
        try:
            identity = UUID(point.chunk)
        except ValueError as err:
            raise InvalidInput(f"{point.chunk!r} is not a chunk id.") from err
        payload = {"document": point.document, "coarse": point.coarse, "medium": point.medium}
        return qdrant.Point(identity, vectors, payload)

    def _vector(self, embedding: bytes) -> list[float]:
        if len(embedding) != self._size * 4:
            raise InvalidInput(f"An embedding of {len(embedding)} bytes does not fit an index of {self._size} numbers.")
        numbers: list[float] = np.frombuffer(embedding, dtype="<f4").tolist()
        return numbers

    def _open(self, folder: Path) -> qdrant.EdgeShard:
        """Load, or set aside what cannot be loaded (or crashed the process before) and create."""
        crashes = folder.with_name(f"{folder.name}.opening")
        tried = len(crashes.read_bytes()) if crashes.exists() else 0
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            crashes.write_bytes(b"x" * (tried + 1))
        except OSError as err:
            raise StorageFull(f"The search index cannot be written to {folder.parent}: {err.strerror}.") from err
        if tried >= CRASHES:
            self._move_aside(folder)
        try:
            shard = _load_or_create(folder, self._size)
        except EngineError as err:
            if any(sign in err.message for sign in NOT_ITS_FAULT):
                raise
            self._move_aside(folder)
            shard = _load_or_create(folder, self._size)
        crashes.unlink()
        return shard

    def _move_aside(self, folder: Path) -> None:
        """Keep one unreadable copy for inspection; an older one is replaced."""
        for older in folder.parent.glob(f"{folder.name}.unreadable-*"):
            shutil.rmtree(older, ignore_errors=True)
        if folder.exists():
            self.set_aside = folder.with_name(f"{folder.name}.unreadable-{time.time_ns()}")
            folder.rename(self.set_aside)


def _load_or_create(folder: Path, size: int) -> qdrant.EdgeShard:
    config = qdrant.EdgeConfig(
        vectors={DENSE: qdrant.EdgeVectorParams(size, qdrant.Distance.Cosine)},
        sparse_vectors={KEYWORD: qdrant.EdgeSparseVectorParams(modifier=qdrant.Modifier.Idf)},
        optimizers=qdrant.EdgeOptimizersConfig(indexing_threshold=NO_GRAPH),
    )
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            with _translated():
                if folder.exists() and any(folder.iterdir()):
                    return qdrant.EdgeShard.load(str(folder), config)
                shard = qdrant.EdgeShard.create(str(folder), config)
                index = qdrant.UpdateOperation.create_field_index("document", qdrant.PayloadSchemaType.Keyword)
                shard.update(index)
                shard.flush()
                return shard
        except EngineError as err:
            if LOCKED not in err.message or time.monotonic() > deadline:
                raise
            time.sleep(0.1)  # the engine before us is still on its way out


def _request(vector: qdrant.NamedVector, using: str, limit: int) -> qdrant.QueryRequest:
    query = qdrant.Query.Nearest(vector, using=using)
    return qdrant.QueryRequest(limit, query=query, with_payload=PAYLOAD)


def _hit(point: qdrant.ScoredPoint) -> WireHit:
    payload = point.payload or {}
    return WireHit(str(point.id), payload["document"], payload["coarse"], payload["medium"], point.score)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except Exception as err:  # the library raises bare Exception
        message = str(err)
        if any(sign in message for sign in NO_SPACE):
            raise StorageFull(f"The search index cannot be written: {message}.") from err
        raise EngineError(f"The search index failed: {message}.") from err
