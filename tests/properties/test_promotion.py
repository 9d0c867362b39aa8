"""Safety of the database on one host, whatever Patroni, the server and the cluster do, and whatever fails."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from morgand.roles.db.promotion import (
    AFTER,
    TRIED,
    Action,
    Outcome,
    PromotionState,
    ServerReading,
    ServerState,
    ServerStep,
    Tried,
    decide,
    follow_up,
)

HOSTS = {"a": "192.0.2.1", "b": "192.0.2.2", "c": ""}

fenced = st.sets(st.sampled_from(sorted(HOSTS))).map(lambda names: {name: HOSTS[name] for name in names})
outcomes = st.lists(st.sampled_from(Outcome), max_size=6)


@dataclass(frozen=True)
class Moment:
    """What the world is at a look, what becomes of what is tried then, and what the cluster says meanwhile."""

    server: ServerState
    leads: bool
    due: bool
    fenced: dict[str, str]
    later: dict[str, str]
    passed_s: float
    outcomes: list[Outcome]


moments = st.lists(
    st.builds(
        Moment, st.sampled_from(ServerState), st.booleans(), st.booleans(), fenced, fenced, st.floats(0.01, 40),
        outcomes,
    ),
    max_size=12,
)  # fmt: skip


@dataclass
class Host:
    """Performs what is decided as the real one does: a database that is tried for is on the server from then on, with
    users when that is done, until it is held."""

    now: float = 0.0
    taken: bool = False
    users: bool = False
    state: PromotionState = field(default_factory=lambda: PromotionState(followed=0.0))
    done: list[tuple[Moment, Action, bool]] = field(default_factory=list)  # and whether there were users before

    def look(self, moment: Moment) -> None:
        self.now += moment.passed_s
        fates = deque(moment.outcomes)
        self.state, actions = decide(self.reading(moment, moment.fenced), self.state)
        waiting, steps = deque(actions), 0
        while waiting:
            steps += 1
            assert steps < 20, "a look ends"
            action = waiting.popleft()
            assert action.cause
            self.done.append((moment, action, self.users))
            if action.step not in TRIED:
                self.perform(action)
                continue
            outcome = self.tries(action, fates.popleft() if fates else Outcome.DONE)
            again = self.reading(moment, moment.later)
            self.state, following = follow_up(Tried(action, outcome, "it failed"), again, self.state)
            waiting.extendleft(reversed(following))

    def perform(self, action: Action) -> None:
        if action.step is ServerStep.HOLD:
            self.taken = self.users = False

    def tries(self, action: Action, fate: Outcome) -> Outcome:
        outcome = fate if (action.step, fate) in AFTER else Outcome.FAILED
        if action.step is ServerStep.TAKE:
            self.taken = True
        if action.step in (ServerStep.TAKE, ServerStep.RENEW) and outcome is Outcome.DONE:
            self.users = True
        return outcome

    def reading(self, moment: Moment, lost: dict[str, str]) -> ServerReading:
        return ServerReading(
            moment.server, leads=moment.leads, taken=self.taken, due=moment.due, now=self.now, fenced=lost,
            given_up="a" in lost,
        )  # fmt: skip


@given(moments)
def test_the_database_is_taken_only_of_a_primary_that_patroni_named(story: list[Moment]) -> None:
    host = Host()
    for moment in story:
        host.look(moment)
    for moment, action, _ in host.done:
        if action.step is ServerStep.TAKE:
            assert moment.leads
        if action.step in (
            ServerStep.TAKE,
            ServerStep.RENEW,
            ServerStep.PART,
            ServerStep.STIR,
            ServerStep.REFUSE,
            ServerStep.CONFIGURE,
        ):
            assert moment.server is ServerState.PRIMARY


@given(moments)
def test_the_database_is_held_whenever_the_server_is_no_primary(story: list[Moment]) -> None:
    """Before anything that waits: what is done of the kind at such a look comes after it."""
    host = Host()
    for moment in story:
        before = len(host.done)
        host.look(moment)
        if moment.server is not ServerState.PRIMARY:
            assert not host.taken
            steps = [action.step for _, action, _ in host.done[before:]]
            assert set(steps[: steps.index(ServerStep.HOLD)]) <= {
                ServerStep.OFFER,
                ServerStep.WITHDRAW,
            }  # these return at once


@given(moments)
def test_nobody_has_the_database_who_could_not_be_admitted(story: list[Moment]) -> None:
    """After a look that failed to admit users it is held, so that none of an earlier time are left."""
    host = Host()
    for moment in story:
        host.look(moment)
        assert host.taken == host.users


@given(moments)
def test_nobody_is_refused_a_copy_before_the_database_has_users(story: list[Moment]) -> None:
    host = Host()
    for moment in story:
        host.look(moment)
    assert all(users for _, action, users in host.done if action.step is ServerStep.REFUSE)


@given(moments)
def test_only_hosts_that_were_given_up_are_parted_with_and_refused(story: list[Moment]) -> None:
    host = Host()
    for moment in story:
        host.look(moment)
    for moment, action, _ in host.done:
        if action.step is ServerStep.PART:
            assert action.names == moment.fenced.keys()
        if action.step is ServerStep.REFUSE:
            assert action.names == set(filter(None, moment.later.values()))


@given(moments, st.sampled_from(ServerState), st.booleans(), fenced)
def test_in_peace_a_look_changes_nothing(
    story: list[Moment], server: ServerState, leads: bool, lost: dict[str, str]
) -> None:
    """Whatever was before: the second of two looks at the same world that succeed finds nothing new to do."""
    host, still = Host(), Moment(server, leads, False, lost, lost, 0.01, [])
    for moment in story:
        host.look(moment)
    host.look(replace(still, passed_s=50.0))
    host.look(still)
    before = len(host.done)
    host.look(still)
    steps = {action.step for _, action, _ in host.done[before:]}
    assert steps.isdisjoint(
        {ServerStep.TAKE, ServerStep.WAKE, ServerStep.REFUSE, ServerStep.CONFIGURE, ServerStep.HAND_OVER}
    )
