"""``python -m morgand.process.die_with_parent PROGRAM ARGUMENT...``: run a program that dies with the daemon.

However the daemon dies.

The kernel keeps the parent-death signal over ``execve`` (prctl(2), PR_SET_PDEATHSIG), so this process asks for it and
then becomes the program. Where there is no such signal the supervisor's own end is all there is.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent or hung_up(0):  # it died before the signal was asked for
            sys.exit(1)
    os.umask(0o077)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the daemon's own choice of program, no shell


def hung_up(descriptor: int) -> bool:
    """Whether the other end of the pipe is closed: the daemon holds that of standard input as long as it lives."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


if __name__ == "__main__":
    main()
