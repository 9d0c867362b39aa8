"""``python -m benchmarks [NAME ...]``: run all benchmarks, or the named ones, one after the other.

``benchmarks.extraction`` wants a folder of references and is run by itself.
"""

from __future__ import annotations

import runpy
import sys

ALL = (
    "scheduler",
    "first_token",
    "idle",
    "ingest_throughput",
    "question_during_ingest",
    "retrieval_latency",
    "cranfield",
    "move",
    "conversations",
    "extraction",
    "failover",
)


def main() -> None:
    names = sys.argv[1:] or list(ALL)
    if unknown := set(names) - set(ALL):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(ALL)}")
    sys.argv[1:] = []
    for name in names:
        print(f"== {name}", flush=True)
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")


if __name__ == "__main__":
    main()
