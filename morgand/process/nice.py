"""How far a process stands back for others where the processors are busy."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

ENGINE = 10  # inference waits for what many wait for: the database, what the cluster decides, a person's request
BACKGROUND = 19  # what nobody waits for gives way to a person's question: documents on their way in
BEATS = -10  # heartbeats wait for nothing


@dataclass(frozen=True, slots=True)
class Priority:
    """Nice values of a process, and of its session where Linux shares processors among sessions first."""

    process: int
    session: int


PEOPLE = Priority(ENGINE, ENGINE)  # somebody waits for what it computes
MIXED = Priority(ENGINE, BACKGROUND)  # mostly documents; what it computes for people is little, and goes first within
DOCUMENTS = Priority(BACKGROUND, BACKGROUND)


def set_priority(priority: Priority, process: int) -> bool:
    """Give a process its nice values (-20 to 19); whether all was done. A system that refuses it leaves it as it was.

    Linux may share processors among sessions first; then a nice value counts within its session only, and the session
    has one too, which others than root may set ten times a second, all of them together (sched(7), "The autogroup
    feature").
    """
    try:
        os.setpriority(os.PRIO_PROCESS, process, priority.process)
        session = Path(f"/proc/{process}/autogroup")
        if session.exists():
            session.write_text(str(priority.session))
    except BlockingIOError:
        return False
    except (OSError, AttributeError):  # not allowed, or ended by now; or no such thing on this system
        return True
    return True


def stand_back() -> None:
    """The calling thread computes what nobody waits for. Only Linux gives threads priorities of their own this way."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND)
