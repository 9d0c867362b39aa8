"""``python -m morgand.process.reaper GRACE_S PROGRAM ARGUMENT...``: run a program and all it starts, to their end.

For a program that starts servers which would outlive it, as Patroni does. This process adopts whatever loses its
parent below it (prctl(2), PR_SET_CHILD_SUBREAPER). SIGTERM is passed on, and the program has GRACE_S to end; when the
daemon is gone there is no grace. Whatever is left then is ended, and this process ends with the program's exit code.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence

from morgand.process.die_with_parent import PR_SET_PDEATHSIG, hung_up

PR_SET_CHILD_SUBREAPER = 36
ENVIRONMENT = "MORGAN_GUARDIAN"  # tells what runs below which process adopts it
QUIT_S = 2.0  # for servers to end at once in their own way (PostgreSQL: immediate shutdown on SIGQUIT)
LOOK_EVERY_S = 0.05
ORPHANED = signal.SIGQUIT  # the daemon is gone
HEEDED = {signal.SIGTERM, signal.SIGINT, ORPHANED, signal.SIGCHLD}


def main() -> None:
    parent = os.getppid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, ORPHANED)
    if os.getppid() != parent or hung_up(0):  # it died before the signal was asked for
        sys.exit(1)
    os.umask(0o077)
    sys.exit(_Guarded(sys.argv[2:]).until_ended(float(sys.argv[1])))


class _Guarded:
    """The program, and everything below this process."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._guardian = os.getpid()
        self._code: int | None = None  # of the program, once it has ended
        self._pid = os.fork()
        if self._pid == 0:
            self._become(argv)

    def _become(self, argv: Sequence[str]) -> None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._guardian:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEEDED)
        try:
            os.execvpe(argv[0], list(argv), {**os.environ, ENVIRONMENT: str(self._guardian)})  # noqa: S606
        except OSError as err:
            sys.stderr.write(f"{argv[0]} cannot be run: {err.strerror}.\n")
            os._exit(127)

    def until_ended(self, grace_s: float) -> int:
        deadline: float | None = None
        while self._code is None:
            got = self._signal(deadline)
            if got in (ORPHANED, None):
                break
            if got in (signal.SIGTERM, signal.SIGINT) and deadline is None:
                deadline = time.monotonic() + grace_s
                os.kill(self._pid, signal.SIGTERM)
            self._reap()
        self._end_all()
        return self._code if self._code is not None else 1

    def _signal(self, deadline: float | None) -> int | None:
        """The next signal; None at the deadline."""
        if deadline is None:
            return signal.sigwait(HEEDED)
        found = signal.sigtimedwait(HEEDED, max(0.0, deadline - time.monotonic()))
        return found.si_signo if found else None

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._pid:
                    code = os.waitstatus_to_exitcode(ended[1])
                    self._code = code if code >= 0 else 128 - code

    def _end_all(self) -> None:
        """The program first, so that it starts nothing anew; then the rest, gently at first."""
        import psutil

        if self._code is None:
            os.kill(self._pid, signal.SIGKILL)
        began = time.monotonic()
        while below := psutil.Process().children(recursive=True):
            gentle = time.monotonic() - began < QUIT_S
            for one in below:
                with contextlib.suppress(psutil.Error):
                    one.send_signal(signal.SIGQUIT if gentle else signal.SIGKILL)
            time.sleep(LOOK_EVERY_S)
            self._reap()


if __name__ == "__main__":
    main()
