"""What a host does about its PostgreSQL in every position, and after everything that was tried."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from morgand.roles.db.promotion import (
    AFTER,
    AT_A_LOOK,
    BECOMING,
    READY,
    STIR_S,
    TRIED,
    UNFOLLOWED,
    UNFOLLOWED_S,
    Action,
    Outcome,
    Position,
    PromotionState,
    ServerReading,
    ServerState,
    ServerStep,
    Tried,
    decide,
    follow_up,
    position,
)
from morgand.state.roles import COMING_S, RoleState

NOW = 1000.0
STATE = PromotionState(followed=NOW)
LOST = {"h9": "192.0.2.9"}


def seen(server: ServerState = ServerState.PRIMARY, **changes: object) -> ServerReading:
    reading = ServerReading(server, leads=False, taken=False, due=False, now=NOW, fenced={})
    return replace(reading, **changes)  # type: ignore[arg-type]


def steps(actions: tuple[Action, ...]) -> list[ServerStep]:
    return [one.step for one in actions]


def said(actions: tuple[Action, ...]) -> list[object]:
    return [one.said for one in actions if one.step is ServerStep.TELL]


EVERY = [
    seen(one, leads=leads, taken=taken) for one, leads, taken in product(ServerState, (False, True), (False, True))
]


@pytest.mark.parametrize(("server", "leads", "taken", "found"), [
    (ServerState.GONE, True, True, Position.GONE),
    (ServerState.BEHIND, True, True, Position.ALONE),
    (ServerState.REPLAYING, False, True, Position.ALONE),
    (ServerState.STREAMING, True, False, Position.FOLLOWING),
    (ServerState.PRIMARY, False, False, Position.PROMOTED),
    (ServerState.PRIMARY, True, False, Position.CHOSEN),
    (ServerState.PRIMARY, True, True, Position.SERVING),
    (ServerState.PRIMARY, False, True, Position.SERVING),  # the epoch says whether anybody is admitted
])  # fmt: skip
def test_the_position_is_what_the_server_is_and_who_patroni_named(
    server: ServerState, leads: bool, taken: bool, found: Position
) -> None:
    assert position(seen(server, leads=leads, taken=taken)) is found


@pytest.mark.parametrize(("reading", "done"), [
    (seen(ServerState.GONE), [ServerStep.WITHDRAW, ServerStep.HOLD, ServerStep.TELL]),
    (seen(ServerState.BEHIND), [ServerStep.OFFER, ServerStep.HOLD]),
    (seen(ServerState.REPLAYING), [ServerStep.OFFER, ServerStep.HOLD]),
    (seen(ServerState.STREAMING), [ServerStep.OFFER, ServerStep.HOLD, ServerStep.MARK_WHOLE, ServerStep.TELL]),
    (seen(), [ServerStep.OFFER]),
    (seen(leads=True), [ServerStep.OFFER, ServerStep.TAKE]),
    (seen(taken=True), [ServerStep.OFFER, ServerStep.RENEW]),
    (seen(fenced=LOST), [ServerStep.OFFER, ServerStep.PART]),
    (seen(fenced=LOST, leads=True), [ServerStep.OFFER, ServerStep.PART, ServerStep.TAKE]),
    (seen(fenced=LOST, taken=True), [ServerStep.OFFER, ServerStep.PART, ServerStep.RENEW]),
])  # fmt: skip
def test_what_is_done_at_a_look(reading: ServerReading, done: list[ServerStep]) -> None:
    """Nothing of it waits for what is not needed: no step is there that has nothing to do."""
    _, actions = decide(reading, STATE)
    assert steps(actions) == done
    assert {one.cause for one in actions} == {position(reading).value}


def test_every_position_has_its_steps_and_every_outcome_what_follows() -> None:
    assert set(AT_A_LOOK) == set(Position)
    assert {(step, one) for step in TRIED for one in (Outcome.DONE, Outcome.FAILED)} <= set(AFTER)


def test_what_cannot_come_of_a_step_is_a_defect() -> None:
    with pytest.raises(KeyError):
        follow_up(Tried(Action(ServerStep.PART, "test"), Outcome.NEWER), seen(), STATE)


def test_a_copy_is_ready_while_it_becomes_the_primary_for_as_long_as_callers_wait_there() -> None:
    """Then it says what it becomes; it is ready again once it need not."""
    due = seen(ServerState.STREAMING, due=True)
    state, actions = decide(due, STATE)
    assert said(actions) == [READY]
    state, actions = decide(replace(due, now=NOW + COMING_S), state)
    assert said(actions) == [READY]
    state, actions = decide(replace(due, now=NOW + COMING_S + 0.1), state)
    assert said(actions) == [BECOMING]
    state, actions = decide(seen(ServerState.STREAMING, now=NOW + 10), state)
    assert said(actions) == [READY]
    _, actions = decide(replace(due, now=NOW + 20), state)
    assert said(actions) == [READY]


def test_a_copy_that_follows_nobody_says_so_after_a_while() -> None:
    behind = seen(ServerState.BEHIND)
    state, actions = decide(replace(behind, now=NOW + UNFOLLOWED_S), STATE)
    assert said(actions) == []
    state, actions = decide(replace(behind, now=NOW + UNFOLLOWED_S + 0.1), state)
    assert said(actions) == [UNFOLLOWED]
    state, _ = decide(replace(behind, server=ServerState.REPLAYING, now=NOW + 20), state)
    _, actions = decide(replace(behind, now=NOW + 21), state)
    assert said(actions) == []


def test_one_that_is_refused_while_it_is_given_up_is_not_behind() -> None:
    state, _ = decide(seen(ServerState.BEHIND, now=NOW + 30, given_up=True), STATE)
    assert state.followed == NOW + 30
    state, _ = decide(seen(ServerState.BEHIND, now=NOW + 60), state)
    assert state.followed == NOW + 30


def test_why_patroni_does_not_run_is_told_where_the_server_does_not_answer() -> None:
    trouble = (RoleState.FAILED, "PostgreSQL is too old.")
    assert said(decide(seen(ServerState.GONE, trouble=trouble), STATE)[1]) == [trouble]
    assert said(decide(seen(ServerState.GONE), STATE)[1]) == [(RoleState.STARTING, None)]


def test_patroni_is_woken_once_for_each_host_that_is_given_up() -> None:
    """What sends to it is ended at every look: one that wakes would stream before it hears that it was given up."""
    lost = seen(fenced=LOST, taken=True)
    state, actions = decide(lost, STATE)
    part = next(one for one in actions if one.step is ServerStep.PART)
    assert part.names == {"h9"}
    state, then = follow_up(Tried(part, Outcome.DONE), lost, state)
    assert steps(then) == [ServerStep.WAKE]
    state, actions = decide(lost, state)
    assert steps(actions) == [ServerStep.OFFER, ServerStep.STIR, ServerStep.PART, ServerStep.RENEW]
    state, then = follow_up(Tried(part, Outcome.DONE), lost, state)
    assert then == ()
    state, actions = decide(replace(lost, now=NOW + STIR_S), state)
    assert ServerStep.STIR not in steps(actions)

    state, _ = decide(replace(lost, fenced={}), state)
    assert state.parted == frozenset()
    _, then = follow_up(Tried(part, Outcome.DONE), lost, state)
    assert steps(then) == [ServerStep.WAKE]


def test_who_could_not_be_parted_with_is_not_counted_as_that() -> None:
    part = Action(ServerStep.PART, "test", frozenset({"h9"}))
    assert follow_up(Tried(part, Outcome.FAILED), seen(fenced=LOST), STATE) == (STATE, ())


def test_users_are_told_of_before_settings_are_written() -> None:
    _, then = follow_up(Tried(Action(ServerStep.TAKE, "test"), Outcome.DONE), seen(taken=True, fenced=LOST), STATE)
    assert steps(then) == [ServerStep.TELL, ServerStep.CONFIGURE, ServerStep.RENEW]
    assert said(then) == [READY]


@pytest.mark.parametrize("step", [ServerStep.TAKE, ServerStep.RENEW])
def test_what_cannot_be_taken_is_held_with_the_reason(step: ServerStep) -> None:
    """One that a newer program has changed goes to a host that may know it."""
    tried = Tried(Action(step, "test"), Outcome.FAILED, "It is away.")
    _, then = follow_up(tried, seen(taken=True), STATE)
    assert steps(then) == [ServerStep.HOLD, ServerStep.TELL]
    assert said(then) == [(RoleState.STARTING, "It is away.")]
    _, then = follow_up(replace(tried, outcome=Outcome.NEWER), seen(taken=True), STATE)
    assert steps(then) == [ServerStep.HOLD, ServerStep.TELL, ServerStep.HAND_OVER]
    assert said(then) == [(RoleState.FAILED, "It is away.")]


def test_who_gets_no_copy_is_said_when_it_is_not_as_it_stands() -> None:
    """Hosts that share their address with one that is welcome are not refused."""
    renewed = Tried(Action(ServerStep.RENEW, "test"), Outcome.DONE)
    serving = seen(taken=True, fenced={**LOST, "h8": ""})
    state, then = follow_up(renewed, serving, STATE)
    refuse = then[-1]
    assert (refuse.step, refuse.names) == (ServerStep.REFUSE, frozenset({"192.0.2.9"}))
    assert follow_up(Tried(refuse, Outcome.FAILED), serving, state) == (state, ())
    state, _ = follow_up(Tried(refuse, Outcome.DONE), serving, state)
    assert steps(follow_up(renewed, serving, state)[1]) == [ServerStep.TELL]
    _, then = follow_up(renewed, seen(taken=True), state)
    assert (then[-1].step, then[-1].names) == (ServerStep.REFUSE, frozenset())


@pytest.mark.parametrize("reading", EVERY, ids=lambda one: f"{one.server}-{one.leads}-{one.taken}")
def test_what_is_decided_twice_is_the_same(reading: ServerReading) -> None:
    assert decide(reading, STATE) == decide(reading, STATE)
