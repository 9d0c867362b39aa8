"""How far a process stands back for others where the processors are busy."""

from __future__ import annotations

import os
from pathlib import Path

ENGINE = 10  # inference waits for what many wait for: the database, what the cluster decides, a person's request
BEATS = -10  # heartbeats wait for nothing


def set_priority(nice: int, process: int) -> bool:
    """Give a process a nice value (-20 to 19); whether all was done. A system that refuses it leaves it as it was.

    Linux may share processors among sessions first; then a nice value counts within its session only, and the session
    has one too, which others than root may set ten times a second, all of them together (sched(7), "The autogroup
    feature").
    """
    try:
        os.setpriority(os.PRIO_PROCESS, process, nice)
        session = Path(f"/proc/{process}/autogroup")
        if session.exists():
            session.write_text(str(nice))
    except BlockingIOError:
        return False
    except (OSError, AttributeError):  # not allowed, or ended by now; or no such thing on this system
        return True
    return True
