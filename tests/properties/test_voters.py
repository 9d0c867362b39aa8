"""The autopilot's promises, from any membership that etcd can be in, on a model of etcd's own rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from morgand.cluster.voters import (
    Add,
    Forget,
    MoveLeader,
    Note,
    Promote,
    Readdress,
    Remove,
    Step,
    VoterCandidate,
    VoterPatience,
    VoterRecord,
    VoterState,
    VotingMember,
)
from morgand.leader.voter_plan import AWAY, next_step
from morgand.state.hosts import Duty, Host, HostState, Network
from tests.fakes.clusters import EMBEDDED, profile

autopilots = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
PATIENCE = VoterPatience(steady_s=10, dead_s=300, stuck_s=300)
LOOK_S = 20.0
CLOSE_LOOK_S, SOON_S = 1.0, 0.1  # as the keeper looks, and after a step
QUIET_S = 400.0  # for so long nothing is to do before that is believed: longer than anything is waited for
BOUND = 60  # steps
ETCD = (*EMBEDDED, "etcd")


@dataclass
class Etcd:
    """The members and the hosts' records. Refuses what etcd refuses; whoever ``starts`` is well at the next look."""

    candidates: list[VoterCandidate]
    leader: str
    seats: list[VotingMember]
    starts: frozenset[str]
    records: dict[str, VoterRecord] = field(default_factory=dict)
    members: int = 100
    coming: set[str] = field(default_factory=set)  # members that vote and were never well

    @property
    def voters(self) -> list[VotingMember]:
        return [seat for seat in self.seats if not seat.learner]

    def decide(self, *, may_move: bool) -> Step | None:
        return next_step(
            self.candidates, self.seats, self.records, leader=self.leader, may_move=may_move, patience=PATIENCE
        )

    def perform(self, step: Step) -> None:
        match step:
            case Note(record):
                self.records[record.host] = record
            case Forget(host):
                del self.records[host]
            case Add(record, votes=votes):
                assert all(seat.healthy for seat in self.seats), "etcd takes nobody while a voter is down"
                assert len(self.voters) == len(self.seats), "etcd takes one learner at a time"
                self.records[record.host] = record
                self.members += 1
                new = VotingMember(f"{self.members:x}", record.host, record.peer_url, learner=not votes, healthy=False)
                self.seats.append(new)
                self.coming |= {new.member} if votes else set()
            case Promote(record):
                self._replace(record.member, learner=False)
            case Remove(seat, failed=failed):
                self.seats.remove(seat)
                if failed:
                    self.candidates = [
                        replace(one, failed=one.failed or one.host.id == seat.host) for one in self.candidates
                    ]
                if seat.leads:
                    self.lead()
            case Readdress(seat, record):
                self._replace(seat.member, peer_url=record.peer_url)
            case MoveLeader(seat_from, seat_to):
                assert seat_from.leads
                assert seat_to.healthy
                assert not seat_to.learner
                self._replace(seat_from.member, leads=False)
                self._replace(seat_to.member, leads=True)

    def lead(self) -> None:
        """etcd's voters elect one of those that are well."""
        self._replace(next(seat.member for seat in self.voters if seat.healthy), leads=True)

    def wait(self, for_s: float = LOOK_S) -> None:
        """Time passes: nobody is only suspected for so long."""
        for number, one in enumerate(self.candidates):
            if one.host.state is HostState.SUSPECT:
                state = HostState.ALIVE if one.host.id in self.starts else HostState.FENCED
                self.candidates[number] = replace(one, host=replace(one.host, state=state))
        for seat in list(self.seats):
            new = seat.learner or seat.member in self.coming
            well = seat.healthy or (new and seat.host in self.starts)
            self.coming -= {seat.member} if well else set()
            self._replace(
                seat.member, healthy=well, steady_s=seat.steady_s + for_s if well else 0.0,
                ill_s=0.0 if well else seat.ill_s + for_s,
            )  # fmt: skip

    def run(self) -> Iterator[tuple[Step, list[VotingMember]]]:
        """Every step with the members before it, until nothing has been to do for long."""
        quiet_s, steps, since_move_s = 0.0, 0, 1000.0
        while quiet_s < QUIET_S:
            step = self.decide(may_move=since_move_s >= 10)
            if step is not None:
                steps += 1
                assert steps <= BOUND, "it never ends"
                before = list(self.seats)
                self.perform(step)
                yield step, before
            quiet_s = 0.0 if step is not None else quiet_s + LOOK_S
            since_move_s = 0.0 if isinstance(step, MoveLeader) else since_move_s + LOOK_S
            self.wait()

    def host(self, seat: VotingMember) -> Host | None:
        return next((one.host for one in self.candidates if one.host.id == seat.host), None)

    def _replace(self, member: str, **facts: object) -> None:
        self.seats = [replace(seat, **facts) if seat.member == member else seat for seat in self.seats]  # type: ignore[arg-type]


@st.composite
def hosts(draw: st.DrawFn, *, calm: bool) -> list[VoterCandidate]:
    states = (HostState.ALIVE,) if calm else (*(HostState.ALIVE,) * 4, *HostState)
    found = []
    for number in range(draw(st.integers(1, 9))):
        facts = replace(
            profile(engines=draw(st.sampled_from((ETCD, ETCD, ETCD, EMBEDDED)))),
            os=draw(st.sampled_from(("linux", "linux", "linux", "windows"))),
            network=Network("eth0", f"192.0.2.{number}", wired=draw(st.sampled_from((True, True, True, False)))),
            duty=draw(st.sampled_from((Duty.ALWAYS, Duty.ALWAYS, Duty.ALWAYS, Duty.SOMETIMES))),
            laptop=draw(st.booleans()),
        )
        host = Host(
            f"h{number}", f"h{number}", f"192.0.2.{number}", facts, state=draw(st.sampled_from(states)),
            draining=not calm and draw(st.integers(0, 5)) == 0,
        )  # fmt: skip
        found.append(VoterCandidate(host, 7471))
    found[0] = replace(found[0], host=replace(found[0].host, state=HostState.ALIVE))
    return found


@st.composite
def clusters(draw: st.DrawFn, *, calm: bool = False) -> Etcd:
    """Any members with a working majority, on any of the hosts. ``calm``: all hosts and all members are well."""
    candidates = draw(hosts(calm=calm))
    places = [(one.host.id, one.peer_url, one.host.state) for one in candidates]
    if not calm:
        places += [("gone", "https://192.0.2.99:7474", HostState.LEFT), ("", "https://192.0.2.98:7474", HostState.LEFT)]
    chosen = draw(st.lists(st.sampled_from(places), min_size=1, max_size=5, unique=True))
    seats = []
    for number, (name, url, state) in enumerate(chosen, 1):
        well = calm or draw(st.integers(0, 9)) > (0 if state is HostState.ALIVE else 4)
        ill_s = 0.0 if well else draw(st.sampled_from((0.0, 295.0, 300.0)))
        seats.append(VotingMember(f"{number:x}", name or None, url, healthy=well, ill_s=ill_s))
    while sum(seat.healthy for seat in seats) * 2 <= len(seats):
        ill = next(number for number, seat in enumerate(seats) if not seat.healthy)
        seats[ill] = replace(seats[ill], healthy=True, ill_s=0.0)
    free = [one for one in candidates if one.host.id not in {seat.host for seat in seats}]
    if draw(st.booleans()) and free:
        one = draw(st.sampled_from(free))
        seats.append(VotingMember("ff", one.host.id, one.peer_url, learner=True, healthy=False))
    names = [one.host.id for one in candidates]
    starts = frozenset(names if calm else draw(st.lists(st.sampled_from(names), min_size=len(names) // 2)))
    alive = [one.host.id for one in candidates if one.host.state is HostState.ALIVE]
    found = Etcd(candidates, draw(st.sampled_from(alive)), seats, starts)
    for one in draw(st.lists(st.sampled_from(candidates), unique_by=lambda one: one.host.id)):
        state = draw(st.sampled_from(VoterState))
        found.records[one.host.id] = VoterRecord(one.host.id, one.peer_url, one.client_url, state, "7")
    found.lead()
    return found


def count(seats: list[VotingMember], *, healthy: bool = False) -> int:
    return sum(not seat.learner and (seat.healthy or not healthy) for seat in seats)


@autopilots
@given(clusters())
def test_it_ends_and_then_stays(etcd: Etcd) -> None:
    """Within a bound of steps nothing is left to do, and records say what etcd says."""
    for _ in etcd.run():
        pass
    assert list(etcd.run()) == []
    known = {one.host.id for one in etcd.candidates}
    assert set(etcd.records) == {seat.host for seat in etcd.seats} & known


@autopilots
@given(clusters())
def test_there_are_always_enough_voters(etcd: Etcd) -> None:
    """Nobody who is well goes while there are fewer than there are to be, or than there were; the rest always works."""
    begun = etcd.voters
    steps = list(etcd.run())
    floor = min(len(begun), len(etcd.voters))
    for step, before in steps:
        if not isinstance(step, Remove) or step.seat.learner:
            continue
        after = [seat for seat in before if seat != step.seat]
        assert count(after, healthy=True) * 2 > count(after)
        if step.seat.healthy:
            assert count(after) >= floor


@autopilots
@given(clusters())
def test_the_number_of_voters_is_odd(etcd: Etcd) -> None:
    """An even one is only a moment on the way, and there are never more than one above five."""
    assert all(count(before) <= 6 for _, before in etcd.run())
    assert len(etcd.voters) in (1, 3, 5)
    assert not any(seat.learner for seat in etcd.seats)


@autopilots
@given(clusters())
def test_a_voter_is_given_up_only_for_a_reason(etcd: Etcd) -> None:
    """While it is needed: its host leaves, or it has been down for long enough, or never started."""
    steps = list(etcd.run())
    final = len(etcd.voters)
    for step, before in steps:
        if not isinstance(step, Remove) or step.seat.learner:
            continue
        host = etcd.host(step.seat)
        leaves = host is None or host.draining
        never = step.why == "it is gone before it voted"
        missed_s = PATIENCE.start_s if step.failed else PATIENCE.dead_s
        assert leaves or never or count(before) > final or step.seat.ill_s >= missed_s


@autopilots
@given(clusters())
def test_whoever_is_dead_is_replaced(etcd: Etcd) -> None:
    """Where somebody can follow, and the others work."""
    for _ in etcd.run():
        pass
    ill = [seat for seat in etcd.voters if not seat.healthy]
    dead = [seat for seat in ill if (host := etcd.host(seat)) is None or host.state in AWAY]
    seated = {seat.host for seat in etcd.seats}
    free = [
        one for one in etcd.candidates
        if one.able and one.host.state is HostState.ALIVE and one.host.id not in seated
        and (one.lasting if len(seated) == 5 else one.host.profile.duty is Duty.ALWAYS)
    ]  # fmt: skip
    assert not dead or len(ill) > len(dead) or not free


@autopilots
@given(clusters(calm=True))
def test_two_voters_last_two_seconds_at_most(etcd: Etcd) -> None:
    """From any odd number that all is well with to any other: the loss of either of two would stop everything. And
    three who are to be are short of nobody for longer than it takes whoever comes to start, a second."""
    etcd.seats = [seat for seat in etcd.seats if not seat.learner]
    if len(etcd.seats) % 2 == 0:
        return
    now_s, fragile_s, quiet_s, since_move_s = 0.0, 0.0, 0.0, 1000.0
    while quiet_s < 2 * PATIENCE.steady_s:
        step = etcd.decide(may_move=since_move_s >= 10)
        if step is not None:
            etcd.perform(step)
        pause_s = CLOSE_LOOK_S if step is None else SOON_S
        healthy = sum(seat.healthy for seat in etcd.voters)
        fragile_s += pause_s if healthy == len(etcd.voters) // 2 + 1 > 1 else 0.0
        quiet_s = 0.0 if step is not None else quiet_s + pause_s
        since_move_s = 0.0 if isinstance(step, MoveLeader) else since_move_s + pause_s
        now_s += pause_s
        if step is None:  # whoever comes takes a second to start
            etcd.wait(pause_s)
    assert fragile_s <= 2.0, f"{fragile_s:.1f} of {now_s:.1f} s"


@autopilots
@given(clusters())
def test_only_able_hosts_come(etcd: Etcd) -> None:
    """They are there, stay, and can run etcd; and they vote only when they have been well for a while, but for whoever
    makes an even number odd, which can do no harm."""
    for step, before in etcd.run():
        if isinstance(step, Add):
            found = next(one for one in etcd.candidates if one.host.id == step.record.host)
            assert found.able
            assert found.host.state is HostState.ALIVE
        if isinstance(step, Promote):
            learner = next(seat for seat in before if seat.learner)
            assert learner.healthy
            assert learner.steady_s >= PATIENCE.steady_s or count(before) % 2 == 0
        if isinstance(step, Add) and step.votes:
            assert count(before) % 2 == 0
            assert count(before, healthy=True) == count(before)


@autopilots
@given(clusters(calm=True))
def test_where_all_is_well_there_are_as_many_voters_as_can_be(etcd: Etcd) -> None:
    """Five from five hosts that are fit for it, else three, else one; hosts that are on only sometimes are a minority
    of those that came; and etcd is led by another host than the cluster where there are three voters."""
    before = {seat.host for seat in etcd.seats}
    for _ in etcd.run():
        pass
    seated = {seat.host for seat in etcd.voters}
    fit = [one for one in etcd.candidates if one.lasting and (one.able or one.host.id in seated)]
    able = [one for one in etcd.candidates if one.able or one.host.id in seated]
    came = [one for one in able if one.host.id in seated - before]
    assert (len(seated) == 5) is (len(fit) >= 5)
    if len([one for one in able if one.host.profile.duty is Duty.ALWAYS]) >= 2 and len(able) >= 3:
        assert len(seated) >= 3
    assert len(able) >= 3 or len(seated) == 1
    assert sum(one.host.profile.duty is Duty.SOMETIMES for one in came) <= 1
    leading = next(seat for seat in etcd.voters if seat.leads)
    assert len(seated) == 1 or leading.host != etcd.leader


@autopilots
@given(clusters())
def test_etcd_is_not_led_by_a_host_that_goes(etcd: Etcd) -> None:
    """Unless no other voter can lead."""
    for step, _ in etcd.run():
        if isinstance(step, MoveLeader):
            heir = etcd.host(step.seat_to)
            assert heir is not None
            assert heir.state is HostState.ALIVE
            assert not heir.draining
    held = etcd.host(next(seat for seat in etcd.voters if seat.leads))
    others = [
        host for seat in etcd.voters if seat.healthy and (host := etcd.host(seat)) and host.state is HostState.ALIVE
        and not host.draining
    ]  # fmt: skip
    assert not others or (held is not None and not held.draining and held.state is not HostState.LEFT)
