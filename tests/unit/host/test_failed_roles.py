"""A role that fails for good on one host, with the real loops of two hosts and of the leader over one store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from morgand.base.clock import SystemClock
from morgand.base.errors import EngineError
from morgand.cluster import codec, election, keys
from morgand.cluster.codec import HostRecord
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.snapshot import Inputs, read_snapshot
from morgand.cluster.store import ClusterStore, Put
from morgand.cluster.view import view_of
from morgand.host import role_health
from morgand.host.agent import HostAgent
from morgand.host.assignments import Assignments
from morgand.host.role_health import RoleHealth
from morgand.host.runner import Runner
from morgand.host.status_reporter import StatusReporter
from morgand.leader.planner import Planner
from morgand.peers.directory import ClusterDirectory
from morgand.process.supervisor import Report
from morgand.roles.catalog import BY_NAME, SPECS
from morgand.scheduler.explain import explain
from morgand.state.roles import Assignment, RoleState
from tests.fakes.clusters import MODELS, profile

WITHIN_S = 30.0
INPUTS = Inputs(SPECS, MODELS, {})


class Service:
    """Fails where its host is broken, as one whose program cannot be started."""

    def __init__(self, broken: bool) -> None:
        self._broken = broken

    async def run(self, report: Report) -> None:
        if self._broken:
            raise EngineError("The driver is gone.")
        report(RoleState.READY, None)
        await asyncio.Event().wait()


class Leased:
    leased = True

    def next(self) -> asyncio.Event:
        return asyncio.Event()


class OneHost:
    """What of a host takes part: it performs what it is assigned, and says how that goes."""

    def __init__(self, name: str, store: ClusterStore, folder: Path, broken: frozenset[str] = frozenset()) -> None:
        self.name, self.tried = name, list[str]()
        clock, self.mirror = SystemClock(), Mirror(store, SystemClock())
        self._health = RoleHealth(clock)

        def make(one: Assignment) -> Service:
            self.tried.append(one.role)
            return Service(one.role in broken)

        self._runner = Runner(make, clock, self._health.heard)
        self._reporter = StatusReporter(name, store, self._runner.statuses, self._health, clock)
        directory = ClusterDirectory(name, self.mirror, self._health.ready, specs=BY_NAME, leased=lambda: True)
        self._agent = HostAgent(
            name, self._runner, Assignments((), folder), mirror=self.mirror, directory=directory,
            connection=cast("Any", Leased()), leaving=lambda: False, clock=clock,
        )  # fmt: skip

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for loop in (self.mirror.run, self._agent.run, self._reporter.run):
                    group.create_task(loop())
        finally:
            await self._runner.stop()

    def ready(self, role: str) -> bool:
        return any(one.role == role and one.state is RoleState.READY for one in self._runner.statuses())

    def holds(self, role: str) -> bool:
        return any(one.role == role for one in self._runner.statuses())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():
            await asyncio.sleep(0.02)


async def announce(store: ClusterStore, name: str, ram_gb: float) -> None:
    record = HostRecord(name, name, "", peer="192.0.2.1:7471")
    puts = [Put(keys.host(name), codec.encode(record)), Put(keys.profile(name), codec.encode(profile(ram_gb)))]
    await store.txn([], puts)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role_health, "BORNE_S", 0.3)
    monkeypatch.setattr("morgand.host.status_reporter.USAGE_EVERY_S", 0.1)


async def play(store: ClusterStore, *hosts: OneHost, story: Callable[[], Any]) -> None:
    held = await election.campaign(store, hosts[0].name)
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(one.run()) for one in hosts]
        running.append(group.create_task(Planner(store, held, lambda: INPUTS, SystemClock()).run()))
        await story()
        for task in running:
            task.cancel()


async def test_it_goes_to_a_host_that_can(tmp_path: Path) -> None:
    """The better host has it first; the other one gets it, and keeps it. Why, is told; nothing else goes."""
    store = await LocalStore.open(tmp_path)
    a, b = OneHost("a", store, tmp_path, frozenset({"reranker"})), OneHost("b", store, tmp_path)
    await announce(store, "a", 64)
    await announce(store, "b", 16)

    def main_on(host: str) -> bool:
        return a.mirror.get(keys.assignment("reranker", "main", host)) is not None

    async def story() -> None:
        await until(lambda: main_on("a") and "reranker" in a.tried)
        await until(lambda: main_on("b") and b.ready("reranker"))
        told = explain(read_snapshot(await view_of(store), INPUTS), "reranker")
        assert "it failed on a" in next(one.why for one in told.placements if one.part == "main")
        assert ("a", "it failed there: The driver is gone.") in [
            (one.host, one.reason) for one in told.refusals if one.part == "main"
        ]
        await asyncio.sleep(1.0)
        assert main_on("b")
        assert a.ready("embedder")

    await play(store, a, b, story=story)
    await store.close()


async def test_a_cause_that_is_everywhere_moves_it_once_to_each(tmp_path: Path) -> None:
    """Then it stays, and is tried there."""
    store = await LocalStore.open(tmp_path)
    broken = frozenset({"reranker"})
    hosts = [OneHost(name, store, tmp_path, broken) for name in "abc"]
    for one, ram_gb in zip(hosts, (64, 32, 16), strict=True):
        await announce(store, one.name, ram_gb)

    async def story() -> None:
        await until(lambda: all("reranker" in one.tried for one in hosts))
        await asyncio.sleep(1.5)
        epochs = {item.key: item.mod_revision for item in hosts[0].mirror.list(keys.ASSIGNMENTS)}
        assert any(one.holds("reranker") for one in hosts)
        await asyncio.sleep(1.0)
        assert {item.key: item.mod_revision for item in hosts[0].mirror.list(keys.ASSIGNMENTS)} == epochs

    await play(store, *hosts, story=story)
    await store.close()


async def test_a_lone_host_keeps_what_fails(tmp_path: Path) -> None:
    """There is nowhere to go; the status says that it has failed."""
    store = await LocalStore.open(tmp_path)
    a = OneHost("a", store, tmp_path, frozenset({"reranker"}))
    await announce(store, "a", 64)

    async def story() -> None:
        await until(lambda: a.mirror.get(keys.failures("a")) is not None and b"driver" in _value(a, keys.failures("a")))
        await asyncio.sleep(0.5)
        assert a.holds("reranker")

    await play(store, a, story=story)
    await store.close()


def _value(one: OneHost, key: str) -> bytes:
    item = one.mirror.get(key)
    return item.value if item is not None else b""
