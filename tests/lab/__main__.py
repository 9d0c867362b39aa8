"""``python -m tests.lab SCENARIO [--seed N] [--rounds N] [--repeat N] [--keep]``: run a scenario, print its times."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.lab.cluster import Lab
from tests.lab.net import usable
from tests.lab.timeline import table

SCENARIOS = Path(__file__).parent / "scenarios"


def main() -> None:
    names = sorted(file.stem for file in SCENARIOS.glob("*.txt"))
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    parser.add_argument("scenario", choices=names)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    parser.add_argument("--rounds", type=int, help="how many, instead of what the scenario says, in one laboratory")
    parser.add_argument("--repeat", type=int, default=1, help="play all of it so often, each time in a new laboratory")
    parser.add_argument("--keep", action="store_true", help="keep data directories and logs")
    asked = parser.parse_args()
    reason = usable()
    if reason is not None:
        sys.exit(f"No laboratory here: {reason}.")
    times: dict[str, list[float]] = {}
    failed = False
    for number in range(asked.repeat):
        root = Path(tempfile.mkdtemp(prefix="mlab", dir="/tmp"))
        failed = not _play(asked.scenario, root, asked.seed + number, asked.rounds, times)
        if failed:
            break  # its hosts' data and logs are kept
        if not asked.keep:
            shutil.rmtree(root, ignore_errors=True)
    sys.stdout.write(table(times) + "\n")
    sys.exit(failed)


def _play(name: str, root: Path, seed: int, rounds: int | None, times: dict[str, list[float]]) -> bool:
    """Whether the story held; what was measured is added to ``times`` in any case."""
    sys.stderr.write(f"{name}, seed {seed}, logs in {root}\n")
    try:
        lab = Lab((SCENARIOS / f"{name}.txt").read_text(), root, seed, rounds=rounds)
    except ValueError as err:
        sys.exit(str(err))
    try:
        with lab:
            lab.run()
    except AssertionError as err:
        sys.stderr.write(f"{name}, seed {seed}, {time.strftime('%H:%M:%S')}: {err}\nlogs in {root}\n")
        return False
    finally:
        for what, taken in lab.times.items():
            times.setdefault(what, []).extend(taken)
    return True


if __name__ == "__main__":
    main()
