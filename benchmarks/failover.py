"""How long nobody can write when the host of the database's primary is lost: stock Patroni and Morgan, in one run.

``python -m benchmarks.failover [--rounds N] [--seed N] [FAULT ...]``, as root, 6 minutes a fault; faults are power-cut,
freeze and partition. Stock is Patroni 4.1 as published (``benchmarks.stock``) on three hosts, asked by a client that
writes all the time; ours is the laboratory's scenario of the same fault on five hosts, with somebody who sends turns
all the time through each of them. Every host is a network namespace of this machine. A round: the fault, another
primary, the host comes back, redundant again. The write outage is the longest time without an acknowledged write around
a fault, ours that of whoever had to wait longest; what stock acknowledged and has not stored ends the run, what ours
has not fails it after the table. The ratio is of medians.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.stock import CLIENT, PASSWORD, Stock, why_not
from benchmarks.writer import Writer, outage
from tests.lab.cluster import Lab

SCENARIOS = {"power-cut": "primary_power_cuts", "freeze": "primary_freezes", "partition": "primary_partitions"}
STORIES = Path(__file__).parents[1] / "tests" / "lab" / "scenarios"
ROUNDS = 2
WRITES = 20  # acknowledged after a fault before the host comes back

Outages = Mapping[str, Sequence[float]]


def table(stock: Outages, ours: Outages) -> str:
    """Seconds per fault, for those that both sides have been through."""
    lines = [f"{'write outage, s':<16}{'stock min / median / max':>26}{'ours min / median / max':>26}{'ratio':>9}"]
    for fault in stock:
        if ours.get(fault):
            ratio = statistics.median(stock[fault]) / statistics.median(ours[fault])
            lines.append(f"{fault:<16}{_three(stock[fault]):>26}{_three(ours[fault]):>26}{ratio:>8.1f}x")
    return "\n".join(lines)


def _three(seconds: Sequence[float]) -> str:
    return " / ".join(f"{one:.1f}" for one in (min(seconds), statistics.median(seconds), max(seconds)))


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A short path that PostgreSQL's account can pass through: sockets lie under it."""
    with tempfile.TemporaryDirectory(prefix="mfo", dir="/tmp") as made:
        Path(made).chmod(0o711)
        yield Path(made)


def stock_outages(faults: Sequence[str], rounds: int, chance: random.Random) -> Outages:
    """Of every fault to the primary's host, on one cluster."""
    found: dict[str, list[float]] = {fault: [] for fault in faults}
    with folder() as root, Stock(root) as stock:
        writer = Writer(stock.net.namespace(CLIENT), stock.addresses, PASSWORD)
        stock.redundant()
        writer.start()
        try:
            for fault in faults:
                for _ in range(rounds):
                    found[fault].append(stock_round(stock, writer, fault, chance))
        finally:
            writer.stop()
    return found


def stock_round(stock: Stock, writer: Writer, fault: str, chance: random.Random) -> float:
    """The write outage of one fault, seconds. Raises AssertionError when an acknowledged row is lost."""
    primary = stock.redundant()
    stock.until(lambda: writer.moments, "a first write")
    time.sleep(chance.uniform(1.0, 3.0))
    struck = time.monotonic()
    stock.hosts[primary].strike(fault)
    stock.until(lambda: stock.moved(primary), "another primary")
    before = len(writer.moments)
    stock.until(lambda: len(writer.moments) >= before + WRITES, "writes go on")
    switched_on = time.monotonic()
    stock.hosts[primary].back(fault)
    stock.redundant()
    redundant_s = time.monotonic() - switched_on
    took = outage(writer.moments, struck)
    lost = writer.lost()
    _say(f"stock {fault} {primary}: outage {took:.1f} s, redundant {redundant_s:.1f} s after its return")
    assert not lost, f"stock Patroni lost {len(lost)} acknowledged rows: {sorted(lost)[:10]}"
    return took


def our_outages(fault: str, rounds: int, seed: int) -> tuple[Sequence[float], str | None]:
    """Of the laboratory's scenario of this fault, and what of its story did not hold, if anything."""
    text = (STORIES / f"{SCENARIOS[fault]}.txt").read_text(encoding="utf-8")
    broken = None
    with folder() as root, Lab(text, root, seed, rounds=rounds) as lab:
        try:
            lab.run()
        except AssertionError as err:
            broken = f"{SCENARIOS[fault]}: {err}"
    return [one for name, taken in lab.times.items() if name.endswith(": write outage") for one in taken], broken


def run(faults: Sequence[str], rounds: int, seed: int) -> list[str]:
    """Prints the table; returns what did not hold of our stories."""
    load = os.getloadavg()[0]
    stock = stock_outages(faults, rounds, random.Random(seed))
    ours, failures = {}, []
    for fault in faults:
        _say(f"ours: {fault}")
        ours[fault], broken = our_outages(fault, rounds, seed)
        failures += [broken] if broken else []
    print(table(stock, ours))
    print(f"load of this machine before: {load:.1f} on {os.cpu_count()} cores; what else runs makes both sides slower")
    return failures


def _say(text: str) -> None:
    sys.stderr.write(f"  {text}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write outages when the primary's host is lost, beside stock Patroni.")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(SCENARIOS)}; all if none is named")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if unknown := set(given.faults) - set(SCENARIOS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; known are {', '.join(SCENARIOS)}")
    if given.rounds < 1:
        parser.error(f"--rounds is 1 or more: {given.rounds}")
    if reason := why_not():
        sys.exit(f"Not possible here: {reason}.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that everything is cleaned up
    try:
        failures = run(given.faults or list(SCENARIOS), given.rounds, given.seed)
    except AssertionError as err:
        sys.exit(str(err))
    except KeyboardInterrupt:
        sys.exit("Interrupted; everything that ran is ended and removed.")
    if failures:
        sys.exit("\n".join(("These stories of ours did not hold:", *failures)))


if __name__ == "__main__":
    main()
