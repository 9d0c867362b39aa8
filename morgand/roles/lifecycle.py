"""The life of one assignment on its host, as a table.

Law: an assignment is started once, may fall and rise any number of times, and once withdrawn it only ends.
An event that the table does not know in a phase is a defect and raises.
"""

from __future__ import annotations

from enum import StrEnum

from morgand.state.roles import RoleState


class Phase(StrEnum):
    """Where the assignment is. ``gone`` is final."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPING = "stopping"
    GONE = "gone"


class Event(StrEnum):
    """What happened to it."""

    START = "start"  # the engine is being (re)started
    UP = "up"  # it answers
    DOWN = "down"  # it fell too often, or cannot run here
    WITHDRAW = "withdraw"  # the plan no longer has it, or the daemon stops
    END = "end"  # everything it held is released


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.STARTING, Event.START): Phase.STARTING,
    (Phase.STARTING, Event.UP): Phase.READY,
    (Phase.STARTING, Event.DOWN): Phase.FAILED,
    (Phase.STARTING, Event.WITHDRAW): Phase.STOPPING,
    (Phase.READY, Event.START): Phase.STARTING,
    (Phase.READY, Event.UP): Phase.READY,
    (Phase.READY, Event.DOWN): Phase.FAILED,
    (Phase.READY, Event.WITHDRAW): Phase.STOPPING,
    (Phase.FAILED, Event.START): Phase.STARTING,
    (Phase.FAILED, Event.UP): Phase.READY,
    (Phase.FAILED, Event.DOWN): Phase.FAILED,
    (Phase.FAILED, Event.WITHDRAW): Phase.STOPPING,
    # an engine that is being stopped may still report; it no longer matters
    (Phase.STOPPING, Event.START): Phase.STOPPING,
    (Phase.STOPPING, Event.UP): Phase.STOPPING,
    (Phase.STOPPING, Event.DOWN): Phase.STOPPING,
    (Phase.STOPPING, Event.END): Phase.GONE,
}

REPORTED: dict[RoleState, Event] = {
    RoleState.STARTING: Event.START,
    RoleState.READY: Event.UP,
    RoleState.FAILED: Event.DOWN,
}

SHOWN: dict[Phase, RoleState] = {
    Phase.STARTING: RoleState.STARTING,
    Phase.READY: RoleState.READY,
    Phase.FAILED: RoleState.FAILED,
    Phase.STOPPING: RoleState.STOPPING,
}


def step(phase: Phase, event: Event) -> Phase:
    """The next phase. Raises KeyError for a pair the table does not know."""
    return TRANSITIONS[phase, event]
