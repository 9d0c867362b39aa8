"""A question while documents are ingested, over the same question in peace; and what ingestion loses by it.

``python -m benchmarks.question_during_ingest [FOLDER]`` takes documents and questions from FOLDER (Cranfield by
default). One daemon holds some documents; then rounds alternate: questions in peace, and the same questions while more
documents are being processed, which half of the rounds do first. Each question begins with a number of its own, so
that no prompt is one that the engine has seen. The median of the ratios of pairs counts. Target: at most 1.5.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path

from tests.e2e.harness import Daemon

DATA = Path(__file__).parents[2] / "shared" / "data" / "cranfield"
HELD = 60  # documents that are there before
AHEAD = 60  # documents that wait at least, while questions are asked
QUESTIONS = 4  # a round
ROUNDS = 4
LIMIT_S = 900.0
POLL_S = 0.05
TARGET = 1.5
INGESTED = b'"ingested"'  # what the daemon logs once of every document that is in the index


class Bench:
    """One daemon, and documents that are each given to it once."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self._daemon = daemon
        self._texts = _texts(folder)
        self._numbers = count(1)
        self._given = 0

    def give(self, documents: int) -> None:
        status, body = self._daemon.upload(dict(islice(self._texts, documents)))
        assert status == 202, body
        self._given += documents

    def processed(self) -> int:
        return self._daemon.log.read_bytes().count(INGESTED)

    def busy(self) -> bool:
        return self.processed() < self._given

    def settle(self) -> None:
        until = time.monotonic() + LIMIT_S
        while self.busy():
            assert time.monotonic() < until, self._daemon.log.read_text()[-3000:]
            time.sleep(POLL_S)

    def ask(self, question: str) -> float:
        """Seconds until the whole answer is there."""
        started = time.perf_counter()
        status, body = self._daemon.turn(f"Case {next(self._numbers)}: {question}?")
        assert status == 200, body
        return time.perf_counter() - started

    def peace(self, questions: Sequence[str]) -> list[float]:
        self.settle()
        return [self.ask(one) for one in questions]

    def loaded(self, questions: Sequence[str]) -> tuple[list[float], float]:
        """Seconds of each question, and documents a minute meanwhile."""
        self.settle()
        before = self.processed()
        self.give(AHEAD)
        while self.processed() == before:
            time.sleep(POLL_S)
        before, started = self.processed(), time.perf_counter()
        took = []
        for one in questions:
            if self._given - self.processed() < AHEAD:
                self.give(AHEAD)
            took.append(self.ask(one))
            assert self.busy(), "the documents were not enough"
        return took, (self.processed() - before) / (time.perf_counter() - started) * 60

    def undisturbed(self) -> float:
        """Documents a minute while nobody asks."""
        self.settle()
        before, started = self.processed(), time.perf_counter()
        self.give(AHEAD)
        self.settle()
        return (self.processed() - before) / (time.perf_counter() - started) * 60


def _texts(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Documents without end: a corpus that is used up comes again with another ending."""
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    for turn in count():
        for row in rows:
            if row["text"].strip():
                yield f"{row['_id']}-{turn}.txt", f"{row['text']}\nCopy {turn}.".encode()


def measure(bench: Bench, questions: Sequence[str]) -> None:
    bench.give(HELD)
    bench.peace(["what is a boundary layer"])
    ratios, speeds = [], []
    for number in range(ROUNDS):
        asked = questions[number * QUESTIONS : (number + 1) * QUESTIONS]
        if number % 2:
            loaded, speed = bench.loaded(asked)
            alone, quiet = bench.peace(asked), bench.undisturbed()
        else:
            alone, quiet = bench.peace(asked), bench.undisturbed()
            loaded, speed = bench.loaded(asked)
        pairs = [one / other for one, other in zip(loaded, alone, strict=True)]
        ratios += pairs
        speeds.append(speed / quiet)
        print(
            f"  round {number + 1}: in peace {statistics.median(alone):.2f} s, during ingestion "
            f"{statistics.median(loaded):.2f} s, ratio {statistics.median(pairs):.2f}; ingestion keeps "
            f"{speeds[-1]:.0%} of {quiet:.0f} documents/min",
            flush=True,
        )
    print(
        f"a question during ingestion over one in peace: median ratio {statistics.median(ratios):.2f}, worst "
        f"{max(ratios):.2f} (target {TARGET:g}); ingestion keeps {statistics.median(speeds):.0%} of its speed "
        "under questions without a pause"
    )


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    questions = [json.loads(line)["text"].strip(" .?") for line in (folder / "queries.jsonl").read_text().splitlines()]
    with tempfile.TemporaryDirectory() as place:
        daemon = Daemon(Path(place) / "data", settings=("limits.chat_per_minute=1000", "limits.ingest_per_minute=1000"))
        daemon.start()
        try:
            measure(Bench(daemon, folder), questions)
        finally:
            daemon.stop()


if __name__ == "__main__":
    main()
