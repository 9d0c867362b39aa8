"""What this host does as its PostgreSQL becomes the primary, is it, or no longer is: decided from one reading (pure).

Law: Patroni chooses the primary. Morgan's database goes over to the server here only where the server can be written
and Patroni's leader is this host; it is held at the first look that finds the server to be anything but a primary; and
nobody is refused a copy before the database has users. What is done at a look, and after what was tried, stands in two
tables; a pair that the second does not know is a defect and raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from morgand.state.roles import COMING_S, RoleState

UNFOLLOWED_S = 10.0  # a standby may be without a primary for so long: one is being found
STIR_S = 3.0  # within which Patroni has commits wait for others than who was given up

RoleCondition = tuple[RoleState, str | None]  # how the role is, and why

READY: RoleCondition = (RoleState.READY, None)
BECOMING: RoleCondition = (RoleState.STARTING, "This copy of the database becomes the primary.")
UNFOLLOWED: RoleCondition = (RoleState.STARTING, "This copy of the database follows no primary now.")


class ServerState(StrEnum):
    """What the server is at this moment."""

    GONE = "gone"  # it does not answer
    PRIMARY = "primary"
    STREAMING = "streaming"  # a standby that follows the primary
    BEHIND = "behind"  # a standby that does not, or not yet
    REPLAYING = "replaying"  # one that does not yet, and gets on with what it has


class Position(StrEnum):
    """Where this host is between a copy and the primary; the cause of what is done at a look."""

    GONE = "the server does not answer"
    ALONE = "the server is a standby that follows nobody"
    FOLLOWING = "the server follows the primary"
    PROMOTED = "the server can be written, and Patroni has not named this host"
    CHOSEN = "the server can be written, and Patroni's leader is this host"
    SERVING = "the database is on this server"


class ServerStep(StrEnum):
    """What can be done. Those of ``AFTER`` are tried, and something follows."""

    OFFER = "offer the copy for reading"
    WITHDRAW = "withdraw the copy"
    HOLD = "hold the database"
    MARK_WHOLE = "note that the copy is whole"
    STIR = "give the standbys something to confirm"
    PART = "end what sends to hosts that were given up"
    WAKE = "have Patroni look at once"
    TAKE = "take the database"
    CONFIGURE = "bring the settings of all members up to date"
    RENEW = "admit users in the epoch of now"
    REFUSE = "say who gets no copy"
    HAND_OVER = "have the synchronous standby lead"
    TELL = "say how the role is"


class Outcome(StrEnum):
    """What became of a step that was tried."""

    DONE = "done"
    FAILED = "failed"  # it is tried again at the next look
    NEWER = "a newer program's"  # this one is too old for the database


@dataclass(frozen=True, slots=True)
class ServerReading:
    """``leads``: Patroni's leader is this host. ``fenced``: hosts that were given up, with the IP address that is
    theirs alone or none; ``given_up``: this one is among them. ``taken``: the database is on this server, with or
    without users; ``due``: this host is to serve it, and does not. ``trouble``: why Patroni does not run. ``now``:
    monotonic seconds."""

    server: ServerState
    leads: bool
    taken: bool
    due: bool
    now: float
    fenced: Mapping[str, str]
    given_up: bool = False
    trouble: RoleCondition | None = None


@dataclass(frozen=True, slots=True)
class PromotionState:
    """What is remembered from one look to the next; times are monotonic seconds."""

    followed: float  # when it was last anything but a standby that does not get on
    due_since: float | None = None
    parted: frozenset[str] = frozenset()  # given up, and no longer waited for by commits
    parted_at: float | None = None  # when what sends to a lost standby was ended
    refused: frozenset[str] = frozenset()  # IP addresses that get no copy from the server here


@dataclass(frozen=True, slots=True)
class Action:
    """``names``: hosts to part with, addresses to refuse. ``said``: what to tell."""

    step: ServerStep
    cause: str
    names: frozenset[str] = frozenset()
    said: RoleCondition | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """``reason``: why it was not done."""

    action: Action
    outcome: Outcome
    reason: str = ""


AT_A_LOOK: Mapping[Position, tuple[ServerStep, ...]] = {
    Position.GONE: (ServerStep.WITHDRAW, ServerStep.HOLD, ServerStep.TELL),
    Position.ALONE: (ServerStep.OFFER, ServerStep.HOLD, ServerStep.TELL),
    Position.FOLLOWING: (ServerStep.OFFER, ServerStep.HOLD, ServerStep.MARK_WHOLE, ServerStep.TELL),
    Position.PROMOTED: (ServerStep.OFFER, ServerStep.STIR, ServerStep.PART),
    Position.CHOSEN: (ServerStep.OFFER, ServerStep.STIR, ServerStep.PART, ServerStep.TAKE),
    Position.SERVING: (ServerStep.OFFER, ServerStep.STIR, ServerStep.PART, ServerStep.RENEW),
}
_HELD = (ServerStep.HOLD, ServerStep.TELL)
AFTER: Mapping[tuple[ServerStep, Outcome], tuple[ServerStep, ...]] = {
    (ServerStep.PART, Outcome.DONE): (ServerStep.WAKE,),
    (ServerStep.PART, Outcome.FAILED): (),
    # settings can wait for users; an epoch may have begun while they were brought up to date
    (ServerStep.TAKE, Outcome.DONE): (ServerStep.TELL, ServerStep.CONFIGURE, ServerStep.RENEW),
    (ServerStep.TAKE, Outcome.FAILED): _HELD,
    (ServerStep.TAKE, Outcome.NEWER): (*_HELD, ServerStep.HAND_OVER),
    # not before others are served: every process of the server reads it again
    (ServerStep.RENEW, Outcome.DONE): (ServerStep.TELL, ServerStep.REFUSE),
    (ServerStep.RENEW, Outcome.FAILED): _HELD,
    (ServerStep.RENEW, Outcome.NEWER): (*_HELD, ServerStep.HAND_OVER),
    (ServerStep.REFUSE, Outcome.DONE): (),
    (ServerStep.REFUSE, Outcome.FAILED): (),
}
TRIED = frozenset(step for step, _ in AFTER)


def position(seen: ServerReading) -> Position:
    if seen.server is ServerState.PRIMARY:
        if seen.taken:
            return Position.SERVING
        return Position.CHOSEN if seen.leads else Position.PROMOTED
    if seen.server is ServerState.STREAMING:
        return Position.FOLLOWING
    return Position.GONE if seen.server is ServerState.GONE else Position.ALONE


def decide(seen: ServerReading, state: PromotionState) -> tuple[PromotionState, tuple[Action, ...]]:
    """What is done after a look at the server, in this order."""
    since = seen.now if state.due_since is None else state.due_since
    due_since = since if seen.due else None
    state = replace(state, due_since=due_since, parted=state.parted.intersection(seen.fenced))
    at = position(seen)
    actions = _actions(AT_A_LOOK[at], at, _told(at, seen, state), seen, state)
    if seen.server is not ServerState.BEHIND or seen.given_up:  # it is refused while it is given up
        state = replace(state, followed=seen.now)
    return state, actions


def follow_up(tried: Tried, seen: ServerReading, state: PromotionState) -> tuple[PromotionState, tuple[Action, ...]]:
    """What is done after a step was tried, before anything else; ``seen`` is read again, but for the server."""
    action, outcome = tried.action, tried.outcome
    steps = AFTER[action.step, outcome]
    if outcome is Outcome.DONE and action.step is ServerStep.PART:
        if action.names <= state.parted:
            steps = ()  # nobody new: Patroni knows
        else:
            state = replace(state, parted_at=seen.now)
        state = replace(state, parted=action.names)
    elif outcome is Outcome.DONE and action.step is ServerStep.REFUSE:
        state = replace(state, refused=action.names)
    said = {
        Outcome.DONE: READY,
        Outcome.FAILED: (RoleState.STARTING, tried.reason),
        Outcome.NEWER: (RoleState.FAILED, tried.reason),
    }[outcome]
    return state, _actions(steps, f"{action.step}: {outcome}", said, seen, state)


def _actions(
    steps: tuple[ServerStep, ...], cause: str, said: RoleCondition | None, seen: ServerReading, state: PromotionState
) -> tuple[Action, ...]:
    """The steps for which there is something to do."""
    refused = frozenset(filter(None, seen.fenced.values()))
    idle = {
        ServerStep.TELL: said is None,
        ServerStep.STIR: state.parted_at is None or seen.now - state.parted_at >= STIR_S,
        ServerStep.PART: not seen.fenced,
        ServerStep.REFUSE: refused == state.refused,
    }
    names = {ServerStep.PART: frozenset(seen.fenced), ServerStep.REFUSE: refused}
    return tuple(
        Action(step, cause, names.get(step, frozenset()), said if step is ServerStep.TELL else None)
        for step in steps
        if not idle.get(step)
    )


def _told(at: Position, seen: ServerReading, state: PromotionState) -> RoleCondition | None:
    """How a role is whose server is no primary; None where that is left as it was told."""
    if at is Position.GONE:
        return seen.trouble or (RoleState.STARTING, None)
    if at is Position.FOLLOWING:
        # until it should have been the primary for a while it is ready: who asks waits here, and has not to hear from
        # the store first
        late = state.due_since is not None and seen.now - state.due_since > COMING_S
        return BECOMING if late else READY
    if at is Position.ALONE and seen.now - state.followed > UNFOLLOWED_S:
        return UNFOLLOWED
    return None
