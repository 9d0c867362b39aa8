"""Ingestion through the whole daemon, over the bare embedding loop of the same model on the same texts.

``python -m benchmarks.ingest_throughput [FOLDER]`` takes documents from FOLDER/corpus.jsonl (Cranfield by default). The
bare loop embeds exactly the chunk texts that ingestion embeds, with the same mini-batches and threads, and does nothing
else. Ingestion is timed from the first upload until the last document is in the search index, which is read from the
daemon's log: asking the daemon would take the cores that are measured. Rounds alternate; the median ratio of pairs
counts. Target: 0.9.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tokenizers import Tokenizer

from morgand.assistant.rag.chunk import chunk
from morgand.assistant.rag.embed import BATCH
from morgand.assistant.rag.extract import read
from morgand.assistant.rag.points import texts_to_embed
from morgand.roles.embedder.engine import OnnxEmbedder
from morgand.roles.models import load_models, locate
from tests.e2e.harness import Daemon

DATA = Path(__file__).parents[2] / "shared" / "data" / "cranfield"
DOCUMENTS = 150
UPLOAD = 50
ROUNDS = 3
POLL_S = 0.02
LIMIT_S = 600.0
THREADS = os.cpu_count() or 1  # as the engine takes by default
TARGET = 0.9
INGESTED = b'"ingested"'  # what the daemon logs once of every document that is in the index


def documents(folder: Path) -> dict[str, bytes]:
    rows = map(json.loads, (folder / "corpus.jsonl").read_text().splitlines())
    found = {f"{row['_id']}.txt": row["text"].encode() for row in rows if row["text"].strip()}
    return dict(list(found.items())[:DOCUMENTS])


def chunk_texts(files: dict[str, bytes], tokenizer: Tokenizer) -> list[str]:
    """What ingestion embeds: per document every different chunk text once."""

    def count(texts: list[str]) -> list[int]:
        return [len(one.ids) for one in tokenizer.encode_batch(texts, add_special_tokens=False)]

    texts: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder) / name
            path.write_bytes(content)
            texts += texts_to_embed(chunk(read(path, name).blocks, count))
    return texts


def bare(model: OnnxEmbedder, texts: list[str]) -> float:
    """Seconds to embed all texts and nothing else, all cores busy, in mini-batches of ingestion's batches."""
    portions = (texts[first : first + BATCH] for first in range(0, len(texts), BATCH))
    batches = [[part[index] for index in batch] for part in portions for batch in model.cut(part)]
    started = time.perf_counter()
    with ThreadPoolExecutor(model.side_by_side) as cores:
        for _ in cores.map(model.embed, batches):
            pass
    return time.perf_counter() - started


def through_daemon(files: dict[str, bytes], folder: Path) -> float:
    """Seconds from the first upload to the last document in the index, in a new daemon."""
    daemon = Daemon(folder / "data")
    daemon.start()
    try:
        names = list(files)
        started = time.perf_counter()
        for first in range(0, len(names), UPLOAD):
            status, body = daemon.upload({name: files[name] for name in names[first : first + UPLOAD]})
            assert status == 202, body
        while daemon.log.read_bytes().count(INGESTED) < len(names):
            assert time.perf_counter() - started < LIMIT_S, daemon.log.read_text()[-3000:]
            time.sleep(POLL_S)
        took = time.perf_counter() - started
        done = daemon.documents()
        assert len(done) == len(files)
        assert all(one["state"] == "completed" and one["embeddings"] == one["chunks"] for one in done)
        return took
    finally:
        daemon.stop()


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    model_dir = next(path for one in load_models() if one.role == "embedder" and (path := locate(one, Path())))
    files = documents(folder)
    texts = chunk_texts(files, Tokenizer.from_file(str(model_dir / "tokenizer.json")))
    print(f"{len(files)} documents, {len(texts)} texts to embed")
    ratios = []
    for number in range(ROUNDS):
        model = OnnxEmbedder(model_dir, THREADS)
        alone = bare(model, texts)
        del model
        with tempfile.TemporaryDirectory() as place:
            whole = through_daemon(files, Path(place))
        ratios.append(alone / whole)
        print(
            f"  round {number + 1}: bare loop {len(texts) / alone:.1f} texts/s, "
            f"ingestion {len(texts) / whole:.1f} texts/s ({len(files) / whole * 60:.0f} documents/min), "
            f"ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(f"ingestion over the bare embedding loop: median ratio {statistics.median(ratios):.2f} (target {TARGET:g})")


if __name__ == "__main__":
    main()
