"""Idle memory and CPU of morgand without its engines: the daemon's own process, nothing asked of it.

Target: 80 MB resident (MB of 10^6 bytes), 1 % of a core. MORGAN_BENCH_IDLE_S sets how long (default 60 s).
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import psutil

from tests.e2e.harness import Daemon

SETTLE_S = 10


def measure(daemon: Daemon, seconds: float) -> None:
    time.sleep(SETTLE_S)
    process = psutil.Process(daemon.pid)
    before = process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    used = (after.user + after.system) - (before.user + before.system)
    memory = process.memory_full_info()
    print(f"  memory {memory.rss / 1e6:.0f} MB resident, {memory.uss / 1e6:.0f} MB its own (target 80 MB)")
    print(f"  CPU {used / seconds * 100:.2f} % of a core (target 1 %)", flush=True)


def main() -> None:
    seconds = float(os.environ.get("MORGAN_BENCH_IDLE_S", "60"))
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(Path(folder) / "data")
        try:
            daemon.start()
            print(f"morgand idle for {seconds:g} s, engines not counted, first start (it made the database's schema):")
            measure(daemon, seconds)
            for engine in daemon.engines():
                print(f"  engine {engine.cmdline()[2]}: {engine.memory_info().rss / 1e6:.0f} MB resident")
            daemon.stop()
            daemon.start()
            print("every later start:")
            measure(daemon, seconds)
        finally:
            daemon.stop()


if __name__ == "__main__":
    main()
