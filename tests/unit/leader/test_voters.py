"""What the keeper of the voters remembers from look to look, does, and tells."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from morgand.base.errors import Conflict, Unavailable
from morgand.base.log import fields_of
from morgand.cluster import election
from morgand.cluster.election import Leadership
from morgand.cluster.etcd import Endpoint, EtcdClient
from morgand.cluster.etcd_wire import EtcdMember, EtcdStatus, Header, Unreached
from morgand.cluster.local import LocalStore
from morgand.cluster.storefile import StoreContent, StoreFile
from morgand.cluster.voters import VoterCandidate
from morgand.leader.voters import VoterKeeper
from morgand.state.hosts import Host, HostState, Network
from tests.cancelling import LoopClock, survives
from tests.fakes.clusters import EMBEDDED, profile
from tests.fakes.storage import HandClock


class SharedStore(LocalStore):
    """A store that others write to as well, and that may be out of reach."""

    reachable = True

    @property
    def alone(self) -> bool:
        return False

    async def list(self, prefix: str) -> Any:
        if not self.reachable:
            raise Unavailable("The cluster store does not answer.")
        return await super().list(prefix)


class FakeEtcd(EtcdClient):
    """etcd as far as its members go. What is wrong with its members is set host by host."""

    def __init__(self, *hosts: VoterCandidate) -> None:
        super().__init__(list, None, name="fake")
        self.present = {number: member(number, one) for number, one in enumerate(hosts, 1)}
        self.leading = 1
        self.down = set[str]()
        self.applied: dict[str, int] = {}
        self.posing: dict[str, int] = {}  # a host that answers as another member than it is
        self.never_start = set[str]()
        self.refuses = ""
        self.added: list[str] = []
        self.asked_to_move: list[int] = []

    async def members(self) -> tuple[EtcdMember, ...]:
        return tuple(self.present.values())

    async def status(self, endpoint: Endpoint) -> EtcdStatus:
        host = endpoint.host_id
        if host in self.down:
            raise Unreached(f"{host} cannot be reached.")
        number = next(one.id for one in self.present.values() if one.name == host)
        return EtcdStatus(Header(member_id=self.posing.get(host, number)), self.leading, self.applied.get(host, 1000))

    async def add_member(self, peer_url: str, *, learner: bool) -> EtcdMember:
        self._permit()
        assert not (learner and any(one.learner for one in self.present.values())), "etcd has room for one learner"
        number, name = max(self.present) + 1, peer_url.removeprefix("https://").partition(".")[0]
        started = name not in self.never_start
        found = EtcdMember(
            number,
            name if started else "",
            (peer_url,),
            (f"https://{name}.morgan:7473",) if started else (),
            learner=learner,
        )
        self.added.append(name)
        self.present[number] = found
        return found

    async def promote(self, member_id: int) -> None:
        self._permit()
        found = self.present[member_id]
        self.present[member_id] = EtcdMember(found.id, found.name, found.peer_urls, found.client_urls)

    async def remove(self, member_id: int) -> None:
        self._permit()
        del self.present[member_id]

    async def transfer_leadership(self, leader: Endpoint, to: int) -> None:
        assert leader.host_id == self.present[self.leading].name, "only etcd's leader can hand over"
        self.asked_to_move.append(to)
        self._permit()
        self.leading = to

    def _permit(self) -> None:
        if self.refuses:
            raise Conflict(self.refuses)

    def voters(self) -> str:
        return "".join(one.name for one in self.present.values() if not one.learner)


def candidate(name: str, **facts: Any) -> VoterCandidate:
    found = replace(profile(engines=(*EMBEDDED, "etcd")), network=Network("eth0", name, wired=True))
    return VoterCandidate(Host(name, name, f"{name}.morgan", found, **facts), 7471)


def member(number: int, one: VoterCandidate) -> EtcdMember:
    return EtcdMember(number, one.host.id, (one.peer_url,), (one.client_url,))


class Enough(Exception):
    """It has run for long enough."""


class ScriptedClock(HandClock):
    """Whoever sleeps makes time pass. ``plan`` says what happens when."""

    def __init__(self) -> None:
        super().__init__()
        self.ends_s = 0.0
        self.plan: list[tuple[float, Callable[[], None]]] = []

    async def sleep(self, delay_s: float) -> None:
        self.turn(delay_s)
        for due in [one for one in self.plan if one[0] <= self.elapsed_s]:
            self.plan.remove(due)
            due[1]()
        if self.elapsed_s >= self.ends_s:
            raise Enough


class Scene:
    """A keeper on the first of the hosts, which leads the cluster, and the world it looks at."""

    def __init__(self, store: SharedStore, held: Leadership, names: str, voters: str) -> None:
        self.store, self.held, self.clock = store, held, ScriptedClock()
        self.hosts = {name: candidate(name) for name in names}
        self.etcd = FakeEtcd(*(self.hosts[name] for name in voters))
        self.keeper = VoterKeeper(store, self.etcd, self.clock, lambda: list(self.hosts.values()))

    def at(self, when_s: float, do: Callable[[], None]) -> None:
        self.clock.plan.append((when_s, do))

    def change(self, name: str, **facts: Any) -> None:
        self.hosts[name] = replace(self.hosts[name], host=replace(self.hosts[name].host, **facts))

    def dies(self, name: str) -> None:
        self.etcd.down.add(name)
        self.change(name, state=HostState.FENCED)

    async def run(self, for_s: float) -> None:
        self.clock.ends_s = self.clock.elapsed_s + for_s
        with pytest.raises(Enough):
            await self.keeper.run(self.held)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Callable[..., Scene]]:
    file = StoreFile(tmp_path)
    store = SharedStore(file, file.read())
    held = await election.campaign(store, "a")
    yield lambda names, voters: Scene(store, held, names, voters)
    await store.close()


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, object, object]]:
    """What was said about the voters, of whom, and why; but for what was only written down."""
    found = [(one.getMessage(), fields_of(one)) for one in caplog.records if one.name == "morgand.voters"]
    return [
        (what, facts.get("host"), facts.get("cause") or facts.get("reason")) for what, facts in found
        if what not in ("voter noted", "voter forgotten")
    ]  # fmt: skip


async def test_a_dead_voter_is_replaced_and_every_step_is_told(
    scene: Callable[..., Scene], caplog: pytest.LogCaptureFixture
) -> None:
    """Five minutes after it was seen last, with one line for each step."""
    caplog.set_level(logging.INFO)
    found = scene("abcd", "abc")
    found.etcd.leading = 2
    found.at(20, lambda: found.dies("c"))
    found.at(319, lambda: voters.append(found.etcd.voters()))
    voters: list[str] = []
    await found.run(345)
    assert [*voters, found.etcd.voters()] == ["abc", "abd"]
    assert told(caplog) == [
        ("voter removed", "c", "it is down for too long"),
        ("voter added", "d", "voters wanted: 3"),
    ]


async def test_two_voters_become_three_at_once(scene: Callable[..., Scene]) -> None:
    """The first learns for ten seconds; the loss of either of two would stop everything, so the next does not."""
    found = scene("abc", "a")
    seen: list[tuple[float, str]] = []
    for tenth in range(300):
        found.at(tenth / 10, lambda: seen.append((found.clock.elapsed_s, found.etcd.voters())))
    await found.run(30)
    first = {len(voters): at for at, voters in reversed(seen)}
    assert first[2] > 10
    assert first[3] - first[2] <= 2


async def test_what_nobody_watched_does_not_count(scene: Callable[..., Scene]) -> None:
    """Minutes in which the store could not be reached say nothing about a voter."""
    found = scene("abcd", "abc")
    found.etcd.leading = 2
    found.at(5, lambda: found.dies("c"))
    found.at(10, lambda: setattr(found.store, "reachable", False))
    found.at(400, lambda: setattr(found.store, "reachable", True))
    await found.run(690)
    assert found.etcd.voters() == "abc"


async def test_a_refusal_is_told_once(scene: Callable[..., Scene], caplog: pytest.LogCaptureFixture) -> None:
    """And again after a step that was not refused."""
    caplog.set_level(logging.INFO)
    found = scene("abc", "a")
    found.etcd.refuses = "etcdserver: unhealthy cluster."
    found.at(20, lambda: setattr(found.etcd, "refuses", ""))
    await found.run(30)
    assert told(caplog) == [
        ("voters not changed", None, "etcdserver: unhealthy cluster."),
        ("voter added", "b", "voters wanted: 3"),
    ]


async def test_a_learner_that_gets_stuck_makes_room_for_another(scene: Callable[..., Scene]) -> None:
    """It is tried again half an hour later."""
    found = scene("abcd", "a")
    found.etcd.never_start = {"b"}
    tried: list[str] = []
    found.etcd.added = tried
    await found.run(290)
    assert (found.etcd.voters(), tried) == ("a", ["b"])
    await found.run(400)
    assert (found.etcd.voters(), tried) == ("acd", ["b", "c", "d"])
    found.change("d", draining=True)
    await found.run(100)
    assert (found.etcd.voters(), tried) == ("a", ["b", "c", "d"])
    await found.run(1800)
    assert tried == ["b", "c", "d", "b"]


async def test_a_learner_that_gets_further_is_given_time(scene: Callable[..., Scene]) -> None:
    found = scene("abc", "a")
    found.etcd.applied = {"a": 100_000, "b": 0, "c": 0}
    for number in range(1, 8):
        found.at(number * 200, lambda: found.etcd.applied.update(b=found.etcd.applied["b"] + 10_000))
    found.at(1690, lambda: members.append([one.name for one in found.etcd.present.values()]))
    members: list[list[str]] = []
    await found.run(1710)
    members.append([one.name for one in found.etcd.present.values()])
    assert members == [["a", "b"], ["a"]]


async def test_nobody_votes_while_another_member_answers_in_its_place(scene: Callable[..., Scene]) -> None:
    """As etcd does that runs with the data of a former membership."""
    found = scene("abc", "a")
    found.etcd.posing = {"b": 99}
    await found.run(60)
    assert found.etcd.voters() == "a"
    found.etcd.posing = {}
    await found.run(60)
    assert found.etcd.voters() == "abc"


async def test_a_learner_votes_when_it_has_been_well_without_a_break(scene: Callable[..., Scene]) -> None:
    found = scene("abc", "a")
    for when_s in range(8, 60, 8):
        found.at(when_s, lambda: found.etcd.down.add("b"))
        found.at(when_s + 1, found.etcd.down.clear)
    await found.run(60)
    assert found.etcd.voters() == "a"


async def test_leadership_of_etcd_moves_at_most_every_five_seconds(scene: Callable[..., Scene]) -> None:
    """However often etcd elects the host that leads the cluster again, and also when etcd refuses."""
    found = scene("abc", "abc")
    for when_s in range(100):
        found.at(when_s, lambda: setattr(found.etcd, "leading", 1))
    await found.run(65)
    assert 11 <= len(found.etcd.asked_to_move) <= 13
    found.etcd.refuses = "etcdserver: bad leader transferee."
    await found.run(65)
    assert len(found.etcd.asked_to_move) <= 26


async def test_etcds_leader_moves_off_a_host_that_says_goodbye(
    scene: Callable[..., Scene], caplog: pytest.LogCaptureFixture
) -> None:
    """At once: its machine waits for a few seconds only."""
    caplog.set_level(logging.INFO)
    found = scene("abc", "abc")
    found.etcd.leading = 2
    found.at(20, lambda: found.change("b", state=HostState.LEFT))
    await found.run(23)
    assert found.etcd.leading == 3
    assert told(caplog) == [("etcd's leader moved", "c", "its host is not to lead etcd")]


@pytest.mark.parametrize("fate", ["removed", "moved", "promoted"])
async def test_a_leader_that_was_followed_by_another_does_nothing(
    scene: Callable[..., Scene], fate: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It hears of it when it asks whether it still leads, before it asks etcd for anything."""
    found = scene("abcd", "a" if fate == "promoted" else "abc")
    await found.run(6 if fate == "promoted" else 2)
    before = dict(found.etcd.present)
    if fate == "removed":
        found.etcd.leading = 2
        found.change("c", draining=True)
        found.etcd.down.add("c")
    await election.resign(found.store, found.held)
    await found.run(20)
    assert (found.etcd.present, found.etcd.asked_to_move) == (before, [])
    assert {what for what, *_ in told(caplog)} == {"voters not changed"}


class Growing:
    """A cluster of three hosts whose etcd has one voter grows to three, and back when two of them leave."""

    def __init__(self, folder: Path) -> None:
        self.store = SharedStore(StoreFile(folder), StoreContent(0, []))
        self.hosts = {name: candidate(name) for name in "abc"}
        self.etcd = FakeEtcd(self.hosts["a"])
        self.keeper = VoterKeeper(self.store, self.etcd, LoopClock(), lambda: list(self.hosts.values()))

    async def run(self) -> None:
        await self.keeper.run(await election.campaign(self.store, "a", never))

    async def works(self) -> None:
        self.etcd.present = {1: member(1, self.hosts["a"])}
        while self.etcd.voters() != "abc":
            await asyncio.sleep(1)


async def never(_: str) -> None:
    await asyncio.Event().wait()


def test_the_keeper_of_voters_works_as_new_wherever_it_was_cancelled(tmp_path: Path) -> None:
    def make() -> Growing:
        folder = tmp_path / uuid4().hex
        folder.mkdir()
        return Growing(folder)

    assert survives(make, stride=3) > 20
