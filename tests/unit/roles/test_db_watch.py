"""The look at a host's PostgreSQL: when it is looked at again, and what is left when it ends."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from morgand.base.clock import SystemClock
from morgand.cluster.etcd import Endpoint
from morgand.cluster.local import LocalStore
from morgand.cluster.storefile import StoreContent, StoreFile
from morgand.roles.db import watch
from morgand.roles.db.copy import LocalCopy
from morgand.roles.db.holding import Holding
from morgand.roles.db.life import FILLING, PatroniSetup, RoleReport
from morgand.roles.db.promotion import READY, RoleCondition
from morgand.roles.db.site import DbSite, Secrets
from morgand.state.roles import RoleState
from morgand.storage.database import Database, sqlite_url

TROUBLE = (RoleState.FAILED, "PostgreSQL is too old.")


@dataclass
class Cluster:
    """Implements ``DatabaseCluster``; what it says is changed by hand."""

    lead: bool = False
    term: int | None = None
    lost: dict[str, str] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        told, self.news = self.news, asyncio.Event()
        told.set()

    def epoch(self) -> int | None:
        return self.term

    def leads(self) -> bool:
        return self.lead

    def fenced(self) -> dict[str, str]:
        return dict(self.lost)

    def quiet(self) -> frozenset[str]:
        return frozenset()

    def voters(self) -> Sequence[Endpoint]:
        return ()

    def agreed_post(self) -> int:
        return 0

    def changed(self) -> asyncio.Event:
        return self.news

    def heard(self) -> asyncio.Event:
        return asyncio.Event()

    async def secrets(self) -> Secrets:
        return Secrets("a", "b", "c", "d")


@dataclass
class Watched:
    """A host whose server is not there."""

    cluster: Cluster
    report: RoleReport
    told: list[RoleCondition]
    copy: Database

    async def until_told(self, what: RoleCondition) -> None:
        async with asyncio.timeout(10):
            while self.told[-1:] != [what]:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[Watched]:
    clock, cluster, told = SystemClock(), Cluster(), list[RoleCondition]()
    database, copy = Database(sqlite_url(folder / "db")), Database(sqlite_url(folder / "copy"), read_only=True)
    report = RoleReport(lambda state, reason: told.append((state, reason)), lambda: True)
    looking = watch.ServerWatch(
        cluster, Holding(database, cluster.epoch, cluster.agreed_post, clock), LocalCopy(copy, lambda: True, clock),
        report, store=LocalStore(StoreFile(folder), StoreContent(0, [])), clock=clock,
    )  # fmt: skip
    site = DbSite("h1", "127.0.0.1", 1, folder / "db", folder, folder, 1024)
    setup = PatroniSetup(site, await cluster.secrets(), None, 1, ssl.create_default_context())
    task = asyncio.create_task(looking.run(setup))
    try:
        yield Watched(cluster, report, told, copy)
    finally:
        task.cancel()
        await asyncio.wait((task,))
        await database.close()


@pytest.mark.parametrize("change", [
    lambda cluster: setattr(cluster, "lead", True),
    lambda cluster: setattr(cluster, "term", 4),
    lambda cluster: cluster.lost.update(h2="192.0.2.2"),
])  # fmt: skip
async def test_the_server_is_looked_at_at_once_when_the_cluster_says_something_new_of_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Cluster], None]
) -> None:
    """That Patroni has chosen this host, that it is to be the primary, that a host was given up: nobody waits for the
    next look."""
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 3600.0)
    monkeypatch.setattr(watch, "LOOK_SOON_S", 3600.0)
    async with watched(tmp_path) as host:
        await host.until_told((RoleState.STARTING, None))
        host.report.trouble = TROUBLE  # told at the next look
        host.cluster.tell()  # something else changed
        await asyncio.sleep(0.05)
        assert host.told == [(RoleState.STARTING, None)]
        change(host.cluster)
        host.cluster.tell()
        await host.until_told(TROUBLE)


async def test_without_a_server_nothing_is_offered(tmp_path: Path) -> None:
    async with watched(tmp_path) as host:
        host.copy.admit()
        async with asyncio.timeout(10):
            while host.copy.admits:
                await asyncio.sleep(0.005)


def test_how_the_role_is_is_said_once_and_nobody_is_ready_before_the_data_are_there() -> None:
    told, whole = list[RoleCondition](), False
    report = RoleReport(lambda state, reason: told.append((state, reason)), lambda: whole)
    report.of_patroni(RoleState.STARTING, None)
    report.say(*READY)
    assert (told, report.server_ready) == ([FILLING], True)
    report.of_patroni(*TROUBLE)
    whole = True
    report.say(*READY)
    report.say(*READY)
    assert told == [FILLING, TROUBLE, READY]
