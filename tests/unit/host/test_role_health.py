"""When a role counts as failed on this host, and for how long that is remembered."""

from __future__ import annotations

import pytest

from morgand.host.role_health import AVOIDED_S, BORNE_S, FORGIVEN_S, SETTLED_S, RoleHealth
from morgand.process.supervisor import BACKOFF_S, COOL_DOWN_S
from morgand.state.roles import RoleFailure, RoleState, RoleStatus
from tests.fakes.storage import HandClock

STARTING, READY, FAILED, STOPPING = RoleState.STARTING, RoleState.READY, RoleState.FAILED, RoleState.STOPPING
LOST = (RoleFailure("llm", "It ended."),)


class Course:
    """One role's life, told as a runner tells it."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.health = RoleHealth(self.clock)

    def says(self, *states: RoleState, after_s: float = 0.0) -> None:
        self.clock.turn(after_s)
        for state in states:
            detail = "It ended." if state is FAILED else None
            self.health.heard(RoleStatus("llm", "main", "a", state, 1, "test", detail=detail))

    def failures(self, after_s: float = 0.0) -> tuple[RoleFailure, ...]:
        self.clock.turn(after_s)
        return self.health.failures()


@pytest.fixture
def course() -> Course:
    made = Course()
    made.says(STARTING, READY)
    return made


def test_a_role_that_is_well_has_not_failed(course: Course) -> None:
    assert course.failures(BORNE_S) == ()


def test_a_restart_is_no_failure(course: Course) -> None:
    """An engine that ends and is back takes a second."""
    course.says(STARTING, after_s=1.0)
    assert course.failures(10 * BORNE_S) == ()


def test_a_failure_is_borne_for_a_while(course: Course) -> None:
    course.says(FAILED)
    assert course.failures(BORNE_S - 1) == ()
    assert course.failures(1.0) == LOST


def test_who_comes_back_in_time_has_not_failed(course: Course) -> None:
    """Nor later, while it is not yet settled."""
    course.says(FAILED)
    course.says(READY, after_s=10.0)
    for _ in range(10):
        assert course.failures(SETTLED_S / 5) == ()
    course.says(FAILED)
    assert course.failures(BORNE_S - 1) == ()  # counted from this failure on


def test_to_be_ready_for_a_moment_between_two_failures_is_not_to_be_well(course: Course) -> None:
    """As of a service that says at once that it is ready, and falls at its first task."""
    course.says(FAILED)
    while course.clock.elapsed_s < BORNE_S:
        course.says(STARTING, READY, after_s=5.0)
        course.says(FAILED, after_s=1.0)
    assert course.failures() == LOST


def test_an_engine_that_cannot_start_has_failed_before_it_has_cooled_down(course: Course) -> None:
    """It is not given a second life here when another host could have had the role by then."""
    assert sum(BACKOFF_S) < BORNE_S < COOL_DOWN_S
    course.says(STARTING, FAILED, after_s=sum(BACKOFF_S))
    course.says(STARTING, after_s=COOL_DOWN_S)
    assert course.failures() == LOST


def test_who_is_well_again_for_good_is_forgiven(course: Course) -> None:
    """Where nobody else can have the role it stays; one day it works again."""
    course.says(FAILED)
    assert course.failures(BORNE_S) == LOST
    course.says(READY)
    assert course.failures(FORGIVEN_S - 1) == LOST
    assert course.failures(1.0) == ()


def test_what_is_elsewhere_is_not_tried_here_again_soon(course: Course) -> None:
    course.says(FAILED)
    assert course.failures(BORNE_S) == LOST
    course.says(STOPPING)
    course.says(STOPPING, after_s=5.0)  # it is told twice: that it stops, and that it has
    assert course.failures(AVOIDED_S - 6) == LOST
    assert course.failures(1.0) == ()


def test_what_was_moved_for_another_reason_has_not_failed(course: Course) -> None:
    course.says(FAILED)
    course.says(STOPPING, after_s=5.0)
    assert course.failures(BORNE_S) == ()


def test_what_comes_back_since_nobody_else_could_is_still_known_to_have_failed(course: Course) -> None:
    course.says(FAILED)
    assert course.failures(BORNE_S) == LOST
    course.says(STOPPING)
    course.says(STARTING, FAILED, after_s=60.0)
    assert course.failures() == LOST
