"""One story in virtual time: a heap of events, one source of chance, the network, the store and the hosts."""

from __future__ import annotations

import heapq
import logging
import random
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morgand.cluster import codec, keys
from morgand.cluster.codec import HostRecord
from morgand.cluster.store import Compare, Put
from morgand.cluster.voters import VoterRecord, VoterState
from morgand.detector.beat import Beat
from morgand.detector.suspicion import majority
from morgand.state.hosts import HostState
from tests.fakes.clusters import EMBEDDED, profile
from tests.simulation.host import FIRST, MOVING, Host
from tests.simulation.judge import Judge
from tests.simulation.network import Network
from tests.simulation.store import Truth, Voting
from tests.simulation.story import Fault, Kind, Story

BEGIN = 1000.0
PATIENCE_S = 20.0  # after the last fault everything is well again within this
LOOK_EVERY_S = 0.25
TOLD = 40  # events that a failure shows


@dataclass(frozen=True, slots=True)
class Outcome:
    """``well_s``: how long after the last fault everything was well."""

    actions: int
    fenced: int
    elections: int
    well_s: float
    digest: str


class Broken(AssertionError):
    """A law was broken: the message says which, the seed, and what happened before."""


class World:
    """``folder`` is where hosts keep their leases."""

    def __init__(self, story: Story, folder: Path, *, aloud: bool = False) -> None:
        self.folder, self.story, self.now, self.chance = folder, story, BEGIN, random.Random(story.seed)
        self._aloud = aloud
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._past: deque[tuple[float, str, tuple[Any, ...]]] = deque(maxlen=TOLD)
        self._failure: str | None = None
        self._network = Network(story, self.chance)
        self._asleep: set[str] = set()
        self.truth = Truth()
        self.hosts: dict[str, Host] = {}
        self.voting = Voting(story.voters, self._linked)
        self.judge = Judge({role: FIRST[role] for role in MOVING}, self._leased, self.note, self.fail)

    # --- time ------------------------------------------------------------------------------------

    def at(self, when: float, do: Callable[..., None], *args: Any) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, do, args))

    def after(self, delay_s: float, do: Callable[..., None], *args: Any) -> None:
        self.at(self.now + delay_s, do, *args)

    def play(self) -> Outcome:
        """The whole story. Raises Broken."""
        self._begin()
        for fault in self.story.faults:
            self.at(BEGIN + fault.at, self._strike, fault)
        self._until(BEGIN + self.story.ends)
        self._heal()
        healed = self.now
        while (missing := self._missing()) is not None:
            if self.now - healed > PATIENCE_S:
                self._break(f"{PATIENCE_S:g} s after the last fault {missing}")
            self._until(self.now + LOOK_EVERY_S)
        judge = self.judge
        digest = f"{self.chance.getrandbits(32):08x}"
        return Outcome(judge.actions, judge.fenced, judge.elections, self.now - healed, digest)

    def close(self) -> None:
        for host in self.hosts.values():
            host.crash()

    def _until(self, when: float) -> None:
        events = self._events
        while events and events[0][0] <= when:
            self.now, _, do, args = heapq.heappop(events)
            do(*args)
            if self._failure is not None:
                self._break(self._failure)
        self.now = when

    # --- what is told ----------------------------------------------------------------------------

    def note(self, text: str, *facts: Any) -> None:
        self._past.append((self.now, text, facts))
        if self._aloud:
            sys.stdout.write(_line(self._past[-1]) + "\n")

    def fail(self, why: str) -> None:
        """The story ends after this event."""
        self._failure = self._failure or why

    def _break(self, why: str) -> None:
        past = "\n".join(_line(one) for one in self._past)
        raise Broken(f"seed {self.story.seed}: {why}\n{past}\n{self.now - BEGIN:8.3f}  {why}\n{self.story}")

    # --- the network and the store ---------------------------------------------------------------

    def boot(self) -> int:
        return self.chance.getrandbits(63)

    def work_s(self) -> float:
        return self.chance.random() * self.story.work_s

    def way_s(self) -> float:
        return self._network.store_s()

    def send_beat(self, beat: Beat) -> None:
        for way_s in self._network.beats(beat.sender, beat.receiver):
            self.after(way_s, self._deliver, beat)

    def ask(self, by: str, host: str, role: str, epoch: int) -> None:
        """A call; now and then one is under way for long."""
        if not self._network.parted(by, host):
            self.after(self._network.call_s(), self._asked, by, host, role, epoch)

    def runs(self, host: str) -> bool:
        return self.hosts[host].up and not self.hosts[host].frozen

    def reachable(self, host: str) -> bool:
        return self.voting.reachable(host, self.now)

    def commit(self, host: str, compares: Sequence[Compare], puts: Sequence[Put], deletes: Sequence[str]) -> int:
        changes = self.truth.txn(compares, puts, deletes)
        if changes is not None:
            self.judge.committed(host, changes)
            for one in self.hosts.values():
                if one.up:
                    one.store.stir()
        return self.truth.revision

    def _deliver(self, beat: Beat) -> None:
        if beat.receiver not in self._asleep:
            self.hosts[beat.receiver].hear(beat)

    def _asked(self, by: str, host: str, role: str, epoch: int) -> None:
        self.hosts[host].asked(by, role, epoch)

    def _linked(self, one: str, other: str) -> bool:
        return self.runs(other) and not self._network.parted(one, other)

    def _leased(self, host: str) -> bool:
        """Whether it may act: it holds its lease, and has read the truth since it got it."""
        return self.hosts[host].up and self.hosts[host].pulse.leased

    # --- the story -------------------------------------------------------------------------------

    def _begin(self) -> None:
        """A cluster that was founded before: everybody is there, and nothing is planned yet."""
        self.truth.txn([], [Put(keys.BEATS, codec.encode("00"))], [])
        for number, name in enumerate(self.story.hosts):
            facts = profile(
                self.chance.choice((8, 16, 32)), engines=(*EMBEDDED, *self.story.engines), models=(),
            )  # fmt: skip
            record = HostRecord(name, name, f"192.0.2.{number}", peer=f"192.0.2.{number}:7000")
            puts = [Put(keys.host(name), codec.encode(record)), Put(keys.profile(name), codec.encode(facts))]
            if name in self.story.voters:
                voter = VoterRecord(name, f"https://{name}", f"https://{name}", VoterState.VOTER, name)
                puts.append(Put(keys.voter(name), codec.encode(voter)))
            self.truth.txn([], puts, [])
            self.judge.states[name] = HostState.ALIVE
        for name in self.story.hosts:
            self.hosts[name] = Host(name, self)

    def _strike(self, fault: Fault) -> None:
        self.note("FAULT {} {} {} for {:.2f} s, {:.2f}", fault.kind.value, fault.who, fault.others, fault.lasts_s,
                  fault.amount)  # fmt: skip
        match fault.kind:
            case Kind.CRASH | Kind.RESTART:
                self._crash(fault)
            case Kind.FREEZE | Kind.SLEEP:
                self._stop(fault)
            case Kind.DETECTOR:
                self.hosts[fault.who].restart_detector(fault.lasts_s)
            case Kind.PARTITION | Kind.MUTE:
                self._sever(fault)
            case Kind.LOSS:
                self._for_a_while(self._network.loss, fault)
            case Kind.JITTER:
                self._for_a_while(self._network.jitter, fault)
            case Kind.SLOW_STORE:
                self._for_a_while(self._network.slow, fault)
        self.voting.review(self.now)

    def _crash(self, fault: Fault) -> None:
        host = self.hosts[fault.who]
        if not host.up:
            return
        host.crash()
        self._asleep.discard(fault.who)
        if fault.kind is Kind.RESTART:
            self.after(fault.lasts_s, self._start, fault.who, host, fault.remembers)

    def _start(self, name: str, before: Host, remembers: bool) -> None:
        if self.hosts[name] is before and not before.up:
            self.note("{} starts{}", name, " with what it knew" if remembers else "")
            self.hosts[name] = Host(name, self, before.mirror if remembers else None)
            self.voting.review(self.now)

    def _stop(self, fault: Fault) -> None:
        host = self.hosts[fault.who]
        if host.up and not host.frozen:
            host.freeze()
            if fault.kind is Kind.SLEEP:
                self._asleep.add(fault.who)
            self.after(fault.lasts_s, self._go_on, host)

    def _go_on(self, host: Host) -> None:
        if host.up and host.frozen:
            self.note("{} goes on", host.name)
            self._asleep.discard(host.name)
            host.thaw(daemon_first=self.chance.random() < 0.5)
            self.voting.review(self.now)

    def _sever(self, fault: Fault) -> None:
        others = fault.others or "".join(one for one in self.story.hosts if one not in fault.who)
        ways = [(one, other) for one in fault.who for other in others]
        if fault.kind is Kind.PARTITION:
            ways += [(other, one) for one, other in ways]
        self._network.cut(ways)
        self.after(fault.lasts_s, self._join, ways)

    def _join(self, ways: list[tuple[str, str]]) -> None:
        self._network.join(ways)
        self.note("cut are {}", self._network.cuts())
        self.voting.review(self.now)

    def _for_a_while(self, where: list[float], fault: Fault) -> None:
        where.append(fault.amount)
        self.after(fault.lasts_s, where.remove, fault.amount)

    def _heal(self) -> None:
        """All faults have ended by themselves; whoever crashed comes back where it is needed."""
        self.note("ALL FAULTS ARE OVER")
        voters = sum(self.hosts[one].up for one in self.story.voters)
        for name, host in list(self.hosts.items()):
            needed = name in self.story.voters and voters < majority(len(self.story.voters))
            if not host.up and (needed or self.story.revive):
                self._start(name, host, remembers=False)
        self.judge.acted.clear()

    def _missing(self) -> str | None:
        """What is not well yet."""
        judge, up = self.judge, [name for name, host in self.hosts.items() if host.up]
        if judge.leader not in up:
            return "nobody leads"
        for name in up:
            if judge.states[name] is not HostState.ALIVE:
                return f"{name} is {judge.states[name].value}"
            if not self.hosts[name].pulse.leased:
                return f"{name} has no lease"
        for role, holders in judge.holders.items():
            if [one for one in holders if one in up] != list(holders) or len(holders) != 1:
                return f"{role} is held by {', '.join(holders) or 'nobody'}"
        silent = [name for name in up if not judge.acted.get(name)]
        return f"no request through {silent[0]} was answered" if silent else None


def play(story: Story, *, aloud: bool = False) -> Outcome:
    """Raises Broken."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="morgan-") as folder:
        world = World(story, Path(folder), aloud=aloud)
        try:
            return world.play()
        finally:
            world.close()
            logging.disable(level)


def _line(event: tuple[float, str, tuple[Any, ...]]) -> str:
    at, text, facts = event
    return f"{at - BEGIN:8.3f}  {text.format(*facts)}"
