"""How long a plan takes for a large cluster: ``python benchmarks/scheduler.py [HOSTS]``. Aim: 50 ms for 1,000 hosts."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from morgand.scheduler.plan import plan
from tests.fakes.clusters import applied, host, snapshot

AIM_MS = 50.0
ROUNDS = 20


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    cards: tuple[tuple[int, ...], ...] = ((), (8,), (12,), (24,), ())
    hosts = [host(f"h{index:05}", (4, 8, 16, 32, 64, 128)[index % 6], cards[index % 5]) for index in range(count)]
    fresh = snapshot(*hosts)
    for name, world in (("first plan", fresh), ("planning again", applied(fresh, plan(fresh)))):
        times = []
        for _ in range(ROUNDS):
            before = time.perf_counter()
            plan(world)
            times.append((time.perf_counter() - before) * 1000)
        median = statistics.median(times)
        print(
            f"{name}, {count} hosts: median {median:.1f} ms, max {max(times):.1f} ms, {median / AIM_MS:.2f} of the aim"
        )


if __name__ == "__main__":
    main()
