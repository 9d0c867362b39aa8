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


class LifecycleEvent(StrEnum):
    """What happened to it."""

    START = "start"  # the engine is being (re)started
    UP = "up"  # it answers
    DOWN = "down"  # it fell too often, or cannot run here
    WITHDRAW = "withdraw"  # the plan no longer has it, or the daemon stops
    END = "end"  # everything it held is released


TRANSITIONS: dict[tuple[Phase, LifecycleEvent], Phase] = {
    (Phase.STARTING, LifecycleEvent.START): Phase.STARTING,
    (Phase.STARTING, LifecycleEvent.UP): Phase.READY,
    (Phase.STARTING, LifecycleEvent.DOWN): Phase.FAILED,
    (Phase.STARTING, LifecycleEvent.WITHDRAW): Phase.STOPPING,
    (Phase.READY, LifecycleEvent.START): Phase.STARTING,
    (Phase.READY, LifecycleEvent.UP): Phase.READY,
    (Phase.READY, LifecycleEvent.DOWN): Phase.FAILED,
    (Phase.READY, LifecycleEvent.WITHDRAW): Phase.STOPPING,
    (Phase.FAILED, LifecycleEvent.START): Phase.STARTING,
    (Phase.FAILED, LifecycleEvent.UP): Phase.READY,
    (Phase.FAILED, LifecycleEvent.DOWN): Phase.FAILED,
    (Phase.FAILED, LifecycleEvent.WITHDRAW): Phase.STOPPING,
    # an engine that is being stopped may still report; it no longer matters
    (Phase.STOPPING, LifecycleEvent.START): Phase.STOPPING,
    (Phase.STOPPING, LifecycleEvent.UP): Phase.STOPPING,
    (Phase.STOPPING, LifecycleEvent.DOWN): Phase.STOPPING,
    (Phase.STOPPING, LifecycleEvent.END): Phase.GONE,
}

REPORTED: dict[RoleState, LifecycleEvent] = {
    RoleState.STARTING: LifecycleEvent.START,
    RoleState.READY: LifecycleEvent.UP,
    RoleState.FAILED: LifecycleEvent.DOWN,
}

SHOWN: dict[Phase, RoleState] = {
    Phase.STARTING: RoleState.STARTING,
    Phase.READY: RoleState.READY,
    Phase.FAILED: RoleState.FAILED,
    Phase.STOPPING: RoleState.STOPPING,
}


def step(phase: Phase, event: LifecycleEvent) -> Phase:
    """The next phase. Raises KeyError for a pair the table does not know."""
    return TRANSITIONS[phase, event]
