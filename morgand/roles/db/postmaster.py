"""``python postmaster.py POSTGRES ARGUMENT...``: what Patroni calls as ``postgres``, so that it dies with the guardian.

Patroni detaches the server it starts, and the guardian adopts it. From then on the kernel can tie the two together:
when the guardian ends, whatever ended it, the server gets SIGQUIT, its immediate shutdown. Only the standard library,
and nothing of ours: the interpreter starts without its packages (``-I -S``).
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
ADOPTED_S = 5.0
# To lose patience with a lost peer soon. Not in Patroni's configuration: it compares that with what its own connection
# shows, which is 0 through a Unix socket, so it would reload the server, and stand still for a second, at every change.
PATIENCE = ("tcp_user_timeout=1000", "tcp_keepalives_idle=1", "tcp_keepalives_interval=1", "tcp_keepalives_count=2")


def is_server(arguments: Sequence[str]) -> bool:
    """Whether this starts the server: Patroni asks the same program for settings, and recovers with ``--single``."""
    return arguments[:1] == ["-D"] and len(arguments) > 2 and arguments[2].startswith("--config-file=")


def tie(guardian: int) -> None:
    """Die with the guardian, from the moment it has adopted this process."""
    deadline = time.monotonic() + ADOPTED_S
    while os.getppid() != guardian:
        if time.monotonic() > deadline:
            sys.exit("The guardian of PostgreSQL is gone.")
        time.sleep(0.005)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
    if os.getppid() != guardian:
        sys.exit("The guardian of PostgreSQL is gone.")


if __name__ == "__main__":
    program, *rest = sys.argv[1:]
    if is_server(rest):
        tie(int(os.environ["MORGAN_GUARDIAN"]))
        rest += [argument for setting in PATIENCE for argument in ("-c", setting)]
    os.execv(program, [program, *rest])  # noqa: S606
