"""``python -m tests.simulation --seed N`` tells one story aloud; ``--seeds A-B`` plays a range on all cores."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.many import play_all
from tests.simulation.story import story_of
from tests.simulation.world import Broken, play


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--seed", type=int, help="tell this story")
    asked.add_argument("--seeds", help="play these, A-B, both included")
    found = parser.parse_args()
    sys.exit(_notify(found.seed) if found.seed is not None else _count(found.seeds))


def _notify(seed: int) -> int:
    sys.stdout.write(f"{story_of(seed)}\n")
    try:
        outcome = play(story_of(seed), aloud=True)
    except Broken as err:
        sys.stdout.write(f"\n{err}\n")
        return 1
    sys.stdout.write(f"{outcome}\n")
    return 0


def _count(seeds: str) -> int:
    first, _, last = seeds.partition("-")
    began = time.perf_counter()
    counts = play_all(range(int(first), int(last or first) + 1))
    for seed, why in counts.broken.items():
        sys.stdout.write(f"{why.splitlines()[0] if len(counts.broken) > 1 else why} (--seed {seed})\n")
    sys.stdout.write(
        f"{counts.seeds} seeds, {len(counts.broken)} broken; {counts.actions} requests answered, {counts.fenced} hosts "
        f"fenced, {counts.elections} leaders; well again after {counts.slowest_s:.2f} s at most; "
        f"{time.perf_counter() - began:.0f} s\n"
    )
    return 1 if counts.broken else 0


if __name__ == "__main__":
    main()
