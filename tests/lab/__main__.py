"""``python -m tests.lab SCENARIO [--seed N] [--rounds N] [--keep]``: run a scenario and print its times."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
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
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep data directories and logs")
    asked = parser.parse_args()
    reason = usable()
    if reason is not None:
        sys.exit(f"No laboratory here: {reason}.")
    times: dict[str, list[float]] = {}
    for number in range(asked.rounds):
        seed = asked.seed + number
        root = Path(tempfile.mkdtemp(prefix="mlab", dir="/tmp"))
        root.chmod(0o711)  # PostgreSQL's account must get through
        sys.stderr.write(f"{asked.scenario}, seed {seed}, logs in {root}\n")
        with Lab((SCENARIOS / f"{asked.scenario}.txt").read_text(), root, seed) as lab:
            lab.run()
        for name, taken in lab.times.items():
            times.setdefault(name, []).extend(taken)
        if not asked.keep:
            shutil.rmtree(root, ignore_errors=True)
    sys.stdout.write(table(times) + "\n")


if __name__ == "__main__":
    main()
