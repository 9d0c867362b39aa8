"""Long-lived loops of the daemon, cancelled at every await and run again: each works as new.

The loops of ingestion and of etcd's voters are beside their other tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from morgand.assistant.events import TurnAccepted, TurnEvent
from morgand.assistant.replay import Replay
from morgand.cluster import codec, keys
from morgand.cluster.codec import HostRecord, HostStatus
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.snapshot import Inputs
from morgand.cluster.store import Put
from morgand.cluster.storefile import StoreContent, StoreFile
from morgand.host.agent import HostAgent
from morgand.host.assignments import Assignments
from morgand.host.role_health import RoleHealth
from morgand.host.runner import Runner
from morgand.host.status_reporter import StatusReporter
from morgand.leader.leadership import Leader
from morgand.peers.directory import ClusterDirectory
from morgand.process.supervisor import Report
from morgand.roles.catalog import BY_NAME, SPECS
from morgand.state.roles import Assignment, RoleState, RoleStatus
from morgand.storage.outbox import KeptMessage, Outbox
from morgand.wiring import while_part
from tests.cancelling import LoopClock, Story, survives
from tests.fakes.clusters import MODELS, profile
from tests.fakes.sights import Eyes

POLL_S = 0.5


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(POLL_S)


class OverStore:
    """A loop over the store of a host that is alone, with a copy that follows it."""

    def __init__(self, folder: Path) -> None:
        self.clock = LoopClock()
        self.store = LocalStore(StoreFile(folder), StoreContent(0, []))
        self.mirror = Mirror(self.store, HandStart())
        self.number = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.mirror.run())
            group.create_task(self.loop())

    async def loop(self) -> None:
        await asyncio.Event().wait()

    async def works(self) -> None:
        """The copy has what was written."""
        self.number += 1
        value = codec.encode(self.number)
        await self.store.txn([], [Put("/x", value)])
        await until(lambda: (item := self.mirror.get("/x")) is not None and item.value == value)


class HandStart(LoopClock):
    """May be asked before there is a loop."""

    def monotonic(self) -> float:
        try:
            return super().monotonic()
        except RuntimeError:
            return 0.0


class Leading(OverStore):
    """Whoever leads gives the roles of a host that was deleted to another."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._leader = Leader(
            "a", store=self.store, mirror=self.mirror, sights=cast("Any", Watching()), inputs=inputs, clock=self.clock
        )

    async def loop(self) -> None:
        await self._leader.run()

    async def works(self) -> None:
        before = [item.key for item in (await self.store.list(keys.HOSTS))[0]]
        self.number += 1
        name = f"host{self.number}"
        puts = [
            Put(keys.host(name), codec.encode(HostRecord(name, name, "", peer="192.0.2.1:7471"))),
            Put(keys.profile(name), codec.encode(profile())),
        ]
        await self.store.txn([], puts, before)
        await until(lambda: any(one.role == "core" and one.host == name for one in self._planned()))

    def _planned(self) -> list[Assignment]:
        return [codec.decode(Assignment, item.value, key=item.key) for item in self.mirror.list(keys.ASSIGNMENTS)]


class Watching(Eyes):
    """Sees nobody else."""

    def next(self) -> asyncio.Event:
        return self.changed


def inputs() -> Inputs:
    return Inputs(SPECS, MODELS, {}, datetime(2026, 3, 1, 12, tzinfo=UTC))


class Performing(OverStore):
    """What the host is assigned runs, and ends when it is assigned no more."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._runner = Runner(lambda _: Ready(), self.clock, lambda _: None)
        directory = ClusterDirectory("a", self.mirror, lambda _: True, specs=BY_NAME, leased=lambda: True)
        self._performer = HostAgent(
            "a", self._runner, Assignments((), folder), mirror=self.mirror, directory=directory,
            connection=cast("Any", Leased()), leaving=lambda: False, clock=self.clock,
        )  # fmt: skip

    async def loop(self) -> None:
        await self._performer.run()

    async def works(self) -> None:
        self.number += 1
        for engine in ("one", "two"):
            mine = Assignment("db", "main", "a", engine, self.number, "test", model=f"{engine}{self.number}")
            await self.store.txn([], [Put(keys.assignment(*mine.slot), codec.encode(mine))])
            await until(lambda model=mine.model: self._shown() == [(RoleState.READY, model)])  # type: ignore[misc]
        await self.store.txn([], [], [keys.assignment(*mine.slot)])
        await until(lambda: self._shown() == [])

    def _shown(self) -> list[tuple[RoleState, str | None]]:
        return [(one.state, one.model) for one in self._runner.statuses()]


class Leased:
    """A connection to the others that is well."""

    leased = True

    def next(self) -> asyncio.Event:
        return asyncio.Event()


class Ready:
    """A service that takes a moment to start and to stop."""

    async def run(self, report: Report) -> None:
        await asyncio.sleep(0.2)
        report(RoleState.READY, None)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.2)


class Reporting(OverStore):
    """What the host says of its roles is in the store."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._roles: list[RoleStatus] = []
        self._health = RoleHealth(HandStart())
        self._reporter = StatusReporter("a", self.store, lambda: self._roles, self._health, HandStart())

    async def loop(self) -> None:
        await self._reporter.run()

    async def works(self) -> None:
        for _ in range(2):
            self.number += 1
            self._roles = [RoleStatus("llm", "main", "a", RoleState.READY, self.number, "test")]
            self._health.heard(self._roles[0])
            await until(lambda: self._published() == self._roles)

    def _published(self) -> list[RoleStatus]:
        item = self.mirror.get(keys.status("a"))
        return list(codec.decode(HostStatus, item.value, key=item.key).roles) if item else []


class Replaying:
    """What waits in the outbox is sent, in every conversation."""

    def __init__(self, folder: Path) -> None:
        self._outbox = Outbox(folder, "atlas")
        self._replay = Replay(self._outbox, self, LoopClock())
        self._opened = False

    async def run(self) -> None:
        await self._replay.run()

    async def works(self) -> None:
        if not self._opened:
            self._opened = True
            await self._outbox.open()
        for conversation in ("00000000-0000-4000-8000-000000000001", None):
            now = datetime(2026, 3, 1, 12, tzinfo=UTC)
            await self._outbox.put(KeptMessage(str(uuid4()), "text", conversation, True, True, None, now))
        await until(lambda: not self._outbox.all())

    async def replay(self, message: KeptMessage) -> AsyncGenerator[TurnEvent, None]:
        await asyncio.sleep(0.1)
        yield TurnAccepted(message.turn, message.conversation or message.turn)
        await asyncio.sleep(0.1)


class WhilePart:
    """The work of a part is done while this host holds it, and only then."""

    def __init__(self, folder: Path) -> None:
        self._assignments = Assignments((), folder)
        self._working = 0

    async def run(self) -> None:
        await while_part(self._assignments, "core", "main", self._work)

    async def works(self) -> None:
        self._assignments.hold([Assignment("core", "main", "a", "assistant", 1, "test")])
        await until(lambda: self._working == 1)
        self._assignments.hold([])
        await until(lambda: self._working == 0)

    async def _work(self) -> None:
        self._working += 1
        try:
            await asyncio.sleep(3600)
        finally:
            self._working -= 1


@pytest.mark.parametrize("story", [OverStore, Leading, Performing, Reporting, Replaying, WhilePart])
def test_a_loop_works_as_new_wherever_it_was_cancelled(tmp_path: Path, story: Callable[[Path], Story]) -> None:
    def make() -> Story:
        folder = tmp_path / uuid4().hex
        folder.mkdir()
        return story(folder)

    assert survives(make) > 3
