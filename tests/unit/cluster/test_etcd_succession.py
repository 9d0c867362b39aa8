"""Who stands for etcd's election when the host of its leader is given up, when, and by which message."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from morgand.cluster import codec, keys
from morgand.cluster.etcd import Endpoint, EtcdClient
from morgand.cluster.etcd_process import NO_HEADERS, EtcdProcess, VoterPlace
from morgand.cluster.etcd_succession import GIVE_UP_S, TURN_S, LeaderTerm, Succession, headers, timeout_now, turn
from morgand.cluster.etcd_wire import EtcdStatus, Header, Unreached
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import Put
from morgand.cluster.storefile import StoreContent, StoreFile
from morgand.cluster.voters import VoterState
from tests.fakes.sights import Eyes
from tests.fakes.storage import HandClock
from tests.unit.cluster.voting import MEMBERS, record

VOTERS = {name: MEMBERS[name] for name in "abcde"}


@pytest.mark.parametrize(
    ("me", "leader", "dead", "waited_s", "what"),
    [
        ("b", "a1", "a", 0.0, LeaderTerm.STAND),
        ("c", "a1", "a", 0.0, LeaderTerm.WAIT),
        ("c", "a1", "a", TURN_S, LeaderTerm.STAND),
        ("e", "a1", "a", 2.9 * TURN_S, LeaderTerm.WAIT),
        ("c", "a1", "ab", 0.0, LeaderTerm.STAND),  # whoever is dead as well has no turn
        ("b", "c3", "a", 9.0, LeaderTerm.LEAVE),  # somebody else leads, as before or by now
        ("b", "", "a", 0.0, LeaderTerm.STAND),  # the election before this one's turn elected nobody
        ("a", "a1", "", 0.0, LeaderTerm.LEAVE),
        ("b", "a1", "", 9.0, LeaderTerm.LEAVE),  # it is not dead after all
        ("b", "a1", "f", 9.0, LeaderTerm.LEAVE),  # a dead host that does not vote
        ("f", "a1", "a", 9.0, LeaderTerm.LEAVE),  # nor does this one
        ("a", "a1", "a", 9.0, LeaderTerm.LEAVE),
    ],
)
def test_turn(me: str, leader: str, dead: str, waited_s: float, what: LeaderTerm) -> None:
    """Only who survives a leader's host stands, one after the other, and only while nobody else leads."""
    assert turn(me, leader, VOTERS, set(dead), waited_s) is what


def test_two_never_stand_at_once() -> None:
    """Votes that are split between two would elect nobody."""
    for dead in ({"a"}, {"a", "c"}, {"e", "b"}):
        leader = VOTERS[min(dead)]
        for tenths in range(20):
            began = [me for me in VOTERS if turn(me, leader, VOTERS, dead, tenths * TURN_S / 2) is LeaderTerm.STAND]
            before = [
                me for me in VOTERS if turn(me, leader, VOTERS, dead, (tenths - 1) * TURN_S / 2) is LeaderTerm.STAND
            ]
            assert len(set(began) - set(before)) <= 1


def test_the_message_is_that_of_a_leader_that_hands_over() -> None:
    """Protobuf: a field's number and kind, then its value, seven bits a byte (checked against the real etcd too)."""
    status = EtcdStatus(Header(member_id=300, cluster_id=0xABC), leader=7, term=5, version="3.4.23")
    assert timeout_now(status) == bytes([0x08, 14, 0x10, 0xAC, 0x02, 0x18, 0xAC, 0x02, 0x20, 5])
    assert timeout_now(EtcdStatus(Header(member_id=2**64 - 1)))[3:13] == b"\xff" * 9 + b"\x01"
    assert headers(status)["X-Etcd-Cluster-ID"] == "abc"


class FakeProcess(EtcdProcess):
    """The etcd of a host, which elects itself when it is told to."""

    def __init__(self, me: str, folder: Path, clock: HandClock) -> None:
        super().__init__(VoterPlace(me, "127.0.0.1", 1, "", folder), _never, ssl.create_default_context())
        self.status = EtcdStatus(Header(member_id=int(MEMBERS[me], 16)), term=5)
        self.clock, self.silent = clock, False
        self.told: list[float] = []
        self.follow("a")

    def follow(self, host: str) -> None:
        self.status = msgspec.structs.replace(self.status, leader=int(MEMBERS[host], 16))

    async def ask_peer(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] = NO_HEADERS,
        *,
        within_s: float = 1.0,
    ) -> int | None:
        assert (method, path, body) == ("POST", "/raft", timeout_now(self.status))
        self.told.append(self.clock.monotonic())
        self.follow(self.place.host_id)
        return 204


class FakeClient(EtcdClient):
    def __init__(self, process: FakeProcess) -> None:
        super().__init__(list, None, name="fake")
        self._process = process

    async def status(self, endpoint: Endpoint) -> EtcdStatus:
        assert endpoint.host_id == self._process.place.host_id  # its own etcd, which is what it can tell
        if self._process.silent:
            raise Unreached(f"{endpoint.host_id} cannot be reached.")
        return self._process.status


async def _never(*_: object) -> None:
    raise AssertionError("nothing is run here")


async def watching(me: str, folder: Path, *, leased: bool = True) -> tuple[FakeProcess, Eyes, asyncio.Task[None]]:
    clock, eyes = HandClock(), Eyes()
    store = LocalStore(StoreFile(folder), StoreContent(0, []))
    await store.txn([], [Put(keys.voter(one), codec.encode(record(one, VoterState.VOTER))) for one in "abc"])
    mirror = Mirror(store, clock)
    await mirror.load()
    etcd = FakeProcess(me, folder, clock)
    succession = Succession(
        etcd, FakeClient(etcd), mirror, clock, sight=eyes.sight, changed=lambda: eyes.changed, leased=lambda: leased
    )
    task = asyncio.create_task(succession.run())
    await asyncio.sleep(0)
    return etcd, eyes, task


@pytest.mark.parametrize(("me", "after_s"), [("b", 0.0), ("c", TURN_S)])
async def test_each_stands_in_its_turn_and_once(tmp_path: Path, me: str, after_s: float) -> None:
    etcd, eyes, task = await watching(me, tmp_path)
    await eyes.see()
    assert etcd.told == []
    await eyes.see("a")
    assert etcd.told == pytest.approx([after_s])
    etcd.follow("a")  # the message was lost
    await eyes.see("a")
    assert len(etcd.told) == 1
    task.cancel()


async def test_nobody_stands_when_another_leads_by_then(tmp_path: Path) -> None:
    etcd, eyes, task = await watching("b", tmp_path)
    etcd.follow("c")
    await eyes.see("a")
    assert etcd.told == []
    await eyes.see("a", "c")  # two of three: nobody is elected, and asking for it does no harm
    assert len(etcd.told) == 1
    task.cancel()


async def test_a_host_on_which_nobody_counts_does_not_stand(tmp_path: Path) -> None:
    """It hears nobody, but is heard: its etcd would have the others elect anew while theirs is led well."""
    etcd, eyes, task = await watching("b", tmp_path, leased=False)
    await eyes.see("a", "c")
    assert etcd.told == []
    task.cancel()


async def test_an_etcd_that_does_not_answer_is_not_asked_for_ever(tmp_path: Path) -> None:
    etcd, eyes, task = await watching("b", tmp_path)
    etcd.silent = True
    await eyes.see("a")
    assert etcd.clock.monotonic() >= GIVE_UP_S
    etcd.silent = False
    await eyes.see("a")
    assert etcd.told == []
    task.cancel()
