"""Who clears up after a laboratory, also when it is killed.

The guardian is a process of its own session. It holds a locked record of the namespaces of its run and waits for its
stdin to close: the laboratory closed it, or is no more. Then it ends what runs inside, and deletes them. A record that
nobody holds is from a run whose guardian was killed as well; the next run clears it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

RECORDS = Path("/run/morgan-lab")
NAMES = Path("/run/netns")
ROUNDS = 50


class Guardian:
    """Starts one for ``spaces``; ``close`` has everything cleared and waits for it."""

    def __init__(self, run: str, spaces: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.guardian", run, *spaces],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            raise AssertionError("the guardian of the laboratory did not start")

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


def processes(space: str) -> list[int]:
    """The processes inside a namespace; none when there is no such namespace."""
    found = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


def strike(space: str, number: signal.Signals) -> int:
    """Signal what is inside, and how many that were. A process id that was taken over meanwhile is left alone."""
    hit = 0
    for process in processes(space):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            handle = os.pidfd_open(process)
            try:
                inside = Path(f"/proc/{process}/ns/net").stat().st_ino == (NAMES / space).stat().st_ino
                if inside:
                    signal.pidfd_send_signal(handle, number)
                    hit += 1
            finally:
                os.close(handle)
    return hit


def clear(spaces: Sequence[str]) -> None:
    """End what runs in these namespaces and delete them."""
    for space in spaces:
        for _ in range(ROUNDS):
            if not strike(space, signal.SIGKILL):
                break
            time.sleep(0.1)
        if (NAMES / space).exists():
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)


def sweep() -> list[str]:
    """Clear the runs that nobody guards any more; their names."""
    swept = []
    for record in sorted(RECORDS.glob("*.json")):
        with contextlib.suppress(FileNotFoundError), record.open("r+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its guardian lives
            clear(json.loads(file.read() or "[]"))
            record.unlink(missing_ok=True)
            swept.append(record.stem)
    return swept


def guard(run: str, spaces: Sequence[str]) -> None:
    """The guardian's life."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    RECORDS.mkdir(mode=0o700, exist_ok=True)
    record = RECORDS / f"{run}.json"
    draft = record.with_suffix(".new")
    with draft.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump(list(spaces), file)
        file.flush()
        draft.rename(record)  # seen by others only when it is whole and locked
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.buffer.read()  # until the laboratory closes it, or is no more
        clear(spaces)
        record.unlink(missing_ok=True)


if __name__ == "__main__":
    guard(sys.argv[1], sys.argv[2:])
