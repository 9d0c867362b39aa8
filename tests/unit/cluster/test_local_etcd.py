"""What a host does about its own etcd."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from morgand.base.clock import SystemClock
from morgand.cluster import codec, keys
from morgand.cluster.etcd_process import Report
from morgand.cluster.local import LocalStore
from morgand.cluster.local_etcd import EtcdAction, LocalEtcd, act
from morgand.cluster.store import Put
from morgand.cluster.voters import VoterRecord, VoterState
from tests.unit.cluster.voting import record


class Shared(LocalStore):
    """A store that other hosts use, too."""

    @property
    def alone(self) -> bool:
        return False


class Nobody:
    """etcd as others see it: it has no members."""

    async def members(self) -> tuple[()]:
        return ()


class SlowEtcd:
    """etcd that takes its time to end."""

    def __init__(self) -> None:
        self.place = SimpleNamespace(host_id="a")
        self.prepared, self.member = True, "old"
        self.started, self.ending, self.may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def run(self, report: Report) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ending.set()
            await self.may_end.wait()


async def test_a_stop_while_the_seat_changes_is_not_swallowed(tmp_path: Path) -> None:
    """The seat waits for etcd's end, to begin as another member; the stop that comes meanwhile ends it."""
    store, etcd = await Shared.open(tmp_path), SlowEtcd()
    await store.txn([], [Put(keys.voter("a"), codec.encode(record("a", VoterState.VOTER, "old")))])
    seat = LocalEtcd(store, cast("Any", Nobody()), cast("Any", etcd), SystemClock(), lambda _state, _reason: None)
    running = asyncio.create_task(seat.run())
    async with asyncio.timeout(20):
        await etcd.started.wait()
        await store.txn([], [Put(keys.voter("a"), codec.encode(record("a", VoterState.LEARNER)))])
        await etcd.ending.wait()
    running.cancel()
    asyncio.get_running_loop().call_later(0.1, etcd.may_end.set)
    swallowed = not (await asyncio.wait([running], timeout=10))[0]
    running.cancel()
    await asyncio.wait([running])
    await store.close()
    assert not swallowed
    assert running.cancelled()


@pytest.mark.parametrize(
    ("record", "prepared", "member", "listed", "expected"),
    [
        (None, False, "", False, EtcdAction.KEEP),
        (None, True, "", True, EtcdAction.KEEP),  # a founder nobody wrote down yet
        (None, True, "a1", False, EtcdAction.LEAVE),
        (record("a", VoterState.WANTED, ""), False, "", False, EtcdAction.KEEP),
        (record("a", VoterState.LEARNER), False, "", False, EtcdAction.JOIN),
        (record("a", VoterState.LEARNER), True, "a1", False, EtcdAction.KEEP),
        (record("a", VoterState.VOTER), True, "", False, EtcdAction.KEEP),
        (record("a", VoterState.LEARNER), True, "a0", False, EtcdAction.JOIN),  # with data of a former membership
        (
            record("a", VoterState.VOTER),
            False,
            "",
            False,
            EtcdAction.RESIGN,
        ),  # its data are gone, or older than its vote
        (record("a", VoterState.VOTER), True, "a0", False, EtcdAction.RESIGN),
        (
            record("a", VoterState.VOTER, ""),
            False,
            "",
            False,
            EtcdAction.JOIN,
        ),  # not yet noted down: refused until it is
    ],
)
def test_what_a_host_does_about_its_own_etcd(
    record: VoterRecord | None, prepared: bool, member: str, listed: bool, expected: EtcdAction
) -> None:
    assert act(record, prepared, member, listed) is expected
