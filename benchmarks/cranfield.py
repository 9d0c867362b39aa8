"""Retrieval quality on Cranfield (1,400 abstracts, 225 questions, graded judgments): nDCG@10.

``python -m benchmarks.cranfield [DATA]`` with DATA a folder in BEIR layout (corpus.jsonl, queries.jsonl,
qrels/test.tsv). Chunking, storage, engines, fusion and reranking are the ones the daemon uses; a document counts at
the place of its first passage among the 100 best. BM25 alone and dense alone are the legs of the same index at the
coarse level, which for these abstracts is the whole document. Targets: ours above both alone, and at least 0.57.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from tokenizers import Tokenizer

from benchmarks.running import Engines
from morgand.assistant.rag.chunk import chunk
from morgand.assistant.rag.extract.types import Block
from morgand.assistant.rag.points import index_points, stored_chunks, texts_to_embed
from morgand.assistant.rag.retrieve import Retriever
from morgand.state.assistant import Extracted, Level
from morgand.state.ports import VectorPoint
from morgand.storage.database import Database, sqlite_url
from morgand.storage.library import SqlLibrary
from morgand.storage.migrate import upgrade
from tests.fakes.storage import HandClock, added, completed, new_document

DATA = Path(__file__).parents[2] / "shared" / "data" / "cranfield"
PASSAGES = 100
CANDIDATES = 20
BUDGET_S = 30.0  # the daemon's is 2: quality shall not depend on how busy this machine is, and the times are printed
TARGET = 0.57

Judgments = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Collection:
    documents: Mapping[str, str]
    queries: Mapping[str, str]
    judgments: Judgments


def read(folder: Path) -> Collection:
    """The collection without its empty documents; the title is the first sentence of each text already."""
    documents = {}
    for line in (folder / "corpus.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["text"].strip():
            documents[row["_id"]] = row["text"]
    queries = {row["_id"]: row["text"] for row in map(json.loads, (folder / "queries.jsonl").read_text().splitlines())}
    judgments: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        judgments.setdefault(query, {})[document] = int(grade)
    return Collection(documents, queries, judgments)


def ndcg(ranking: Sequence[str], grades: Mapping[str, int], depth: int = 10) -> float:
    """Linear gain, as trec_eval computes it."""
    found = sum(grades.get(one, 0) / math.log2(place + 2) for place, one in enumerate(ranking[:depth]))
    best = sorted(grades.values(), reverse=True)[:depth]
    ideal = sum(grade / math.log2(place + 2) for place, grade in enumerate(best))
    return found / ideal if ideal else 0.0


def mean_ndcg(run: Mapping[str, Sequence[str]], judgments: Judgments) -> float:
    return statistics.fmean(ndcg(run[query], grades) for query, grades in judgments.items())


async def fill(collection: Collection, library: SqlLibrary, engines: Engines) -> dict[str, str]:
    """Store, embed and index every document. Returns collection id by our document id."""
    tokenizer = Tokenizer.from_file(str(engines.embedder_dir / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: list[str]) -> list[int]:
        return [len(one.ids) for one in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    ids = {str(uuid5(NAMESPACE_URL, f"cranfield/{name}")): name for name in collection.documents}
    cut = {ours: chunk([Block(collection.documents[name], "")], count) for ours, name in ids.items()}
    texts = texts_to_embed([one for chunks in cut.values() for one in chunks])
    vectors = dict(zip(texts, await engines.embedder.embed_passages(texts), strict=True))
    names = {}
    points: list[VectorPoint] = []
    for ours, chunks in cut.items():
        row, _ = await added(library, new_document(source=f"cranfield/{ids[ours]}", content=ours))
        stored = stored_chunks(row.id, chunks, vectors)
        await completed(library, row.id, Extracted(None, "text/plain", chunks), stored)
        points += index_points(stored)
        names[row.id] = ids[ours]
    await engines.vectors.upsert(points)
    return names


def first_of_each(documents: Iterable[str], names: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys(names[one] for one in documents))


class Runs:
    """Rankings by system and query, and milliseconds by system."""

    def __init__(self) -> None:
        self.rankings: dict[str, dict[str, list[str]]] = {}
        self.took_ms: dict[str, list[float]] = {}

    def add(self, system: str, query: str, ranking: list[str], started: float) -> None:
        self.rankings.setdefault(system, {})[query] = ranking
        self.took_ms.setdefault(system, []).append((time.perf_counter() - started) * 1000)


async def ask(collection: Collection, engines: Engines, retriever: Retriever, names: Mapping[str, str]) -> Runs:
    runs = Runs()
    for query, text in collection.queries.items():
        started = time.perf_counter()
        legs = await engines.vectors.search(text, None, limit=PASSAGES)
        ranking = first_of_each((hit.document for hit in legs.keyword[Level.COARSE]), names)
        runs.add("BM25 alone", query, ranking, started)
        started = time.perf_counter()
        legs = await engines.vectors.search(text, await engines.embedder.embed_query(text), limit=PASSAGES)
        ranking = first_of_each((hit.document for hit in legs.dense[Level.COARSE]), names)
        runs.add("dense alone", query, ranking, started)
        for system, rerank in (("ours, not reranked", False), ("ours", True)):
            started = time.perf_counter()
            found = await retriever.search(
                text, PASSAGES, rerank=rerank, candidates=CANDIDATES, budget_s=BUDGET_S
            )  # fmt: skip
            if found.notices:
                raise SystemExit(f"not a full run: {' '.join(found.notices)}")
            runs.add(system, query, first_of_each((one.document for one in found.passages), names), started)
    return runs


def show(runs: Runs, judgments: Judgments) -> None:
    odd = {query: grades for query, grades in judgments.items() if int(query) % 2}
    even = {query: grades for query, grades in judgments.items() if query not in odd}
    print(f"{'system':20} nDCG@10  odd/even queries   p50 ms  p95 ms")
    for system, run in runs.rankings.items():
        took = sorted(runs.took_ms[system])
        print(
            f"{system:20}  {mean_ndcg(run, judgments):.4f}   {mean_ndcg(run, odd):.4f}/{mean_ndcg(run, even):.4f}"
            f"   {statistics.median(took):7.1f} {took[int(len(took) * 0.95)]:7.1f}"
        )
    print(f"target: ours above both alone, and at least {TARGET}")


async def run(folder: Path) -> None:
    collection = read(folder)
    with tempfile.TemporaryDirectory() as work:
        database = Database(sqlite_url(Path(work) / "db" / "morgan.sqlite"))
        await database.open()
        await upgrade(database)
        async with Engines(Path(work)) as engines:
            library = SqlLibrary(database, HandClock())
            started = time.perf_counter()
            names = await fill(collection, library, engines)
            print(f"{len(names)} documents stored, embedded and indexed in {time.perf_counter() - started:.0f} s")
            retriever = Retriever(engines.vectors, engines.embedder, engines.reranker, library)
            show(await ask(collection, engines, retriever, names), collection.judgments)
        await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="nDCG@10 on Cranfield.")
    parser.add_argument("data", nargs="?", type=Path, default=DATA, help="folder in BEIR layout")
    asyncio.run(run(parser.parse_args().data))


if __name__ == "__main__":
    main()
