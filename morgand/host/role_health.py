"""Which roles this host cannot perform: what the plan goes by, beside what it knows of the hosts themselves.

Law: a role has failed here when it is not ready ``BORNE_S`` after it first failed, in spite of restarts; to be ready
for a moment between two failures is not to be well. It is forgiven when it was ready for ``FORGIVEN_S``, as another
part of the role or where nobody else could have it; where the role is elsewhere, after ``AVOIDED_S``. A new start of
the daemon forgets it all: whatever was wrong may have been mended.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from morgand.base.clock import Clock
from morgand.process.supervisor import WINDOW_S
from morgand.state.roles import RoleFailure, RoleState, RoleStatus

BORNE_S = 45.0  # four looks for what a service misses; an engine has been started six times before it first fails
SETTLED_S = WINDOW_S  # ready for so long: the ends before no longer count towards its restarts either
FORGIVEN_S = 600.0  # ready for so long, who had failed is as good as others: it moves no more often than that
AVOIDED_S = 1800.0


@dataclass(slots=True)
class _Course:
    """How a role has gone here since it first failed; times are monotonic seconds."""

    failing_since: float
    reason: str
    failed: bool = False  # for good, as the law says
    ready_since: float | None = None
    elsewhere_since: float | None = None


class RoleHealth:
    """``heard`` of every change of a role here; the rest may be asked at any time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._courses: dict[str, _Course] = {}
        self._ready: set[str] = set()
        self._changed = asyncio.Event()

    def heard(self, status: RoleStatus) -> None:
        if status.state is RoleState.READY:
            self._ready.add(status.role)
        else:
            self._ready.discard(status.role)
        self._follow(status)
        told, self._changed = self._changed, asyncio.Event()
        told.set()

    def ready(self, role: str) -> bool:
        """Whether this host performs a role now."""
        return role in self._ready

    def next(self) -> asyncio.Event:
        """Set when something else was heard than at this call."""
        return self._changed

    def _follow(self, status: RoleStatus) -> None:
        now, course = self._clock.monotonic(), self._courses.get(status.role)
        if course is None:
            if status.state is RoleState.FAILED:
                self._courses[status.role] = _Course(now, status.detail or "")
            return
        self._judge(course, now)
        if status.state is RoleState.STOPPING:
            course.elsewhere_since = course.elsewhere_since or now
            return
        course.elsewhere_since = None
        course.ready_since = now if status.state is RoleState.READY else None
        course.reason = status.detail or course.reason

    def failures(self) -> tuple[RoleFailure, ...]:
        """In order of the roles' names."""
        now = self._clock.monotonic()
        for course in self._courses.values():
            self._judge(course, now)
        self._courses = {role: one for role, one in self._courses.items() if not _over(one, now)}
        return tuple(RoleFailure(role, one.reason) for role, one in sorted(self._courses.items()) if one.failed)

    def _judge(self, course: _Course, now: float) -> None:
        running = course.elsewhere_since is None
        late = now - course.failing_since >= BORNE_S
        course.failed = course.failed or (running and late and course.ready_since is None)


def _over(course: _Course, now: float) -> bool:
    """Whether it needs no longer be remembered."""
    if course.elsewhere_since is not None:
        return not course.failed or now - course.elsewhere_since >= AVOIDED_S
    return course.ready_since is not None and now - course.ready_since >= (FORGIVEN_S if course.failed else SETTLED_S)
