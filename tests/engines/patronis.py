"""Members of one PostgreSQL under Patroni, each with folders and ports of its own at 127.0.0.1, and etcd for them.

``python -m tests.engines.patronis SITE VOTER``: one member alone, in a process that a test can kill. It says ``ready``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil
from sqlalchemy import text

from morgand.base.clock import SystemClock
from morgand.base.errors import MorganError
from morgand.cluster import keys
from morgand.cluster.etcd import Endpoint, EtcdClient
from morgand.cluster.etcd_store import EtcdStore
from morgand.cluster.mirror import Mirror
from morgand.roles.db import postgres
from morgand.roles.db.copy import LocalCopy
from morgand.roles.db.life import DatabaseHost
from morgand.roles.db.patroni import Standing, standings
from morgand.roles.db.patroni_keys import Patroni, patroni_in
from morgand.roles.db.rest import Rest
from morgand.roles.db.site import DbSite, Secrets
from morgand.security import trust
from morgand.state.roles import RoleState
from morgand.storage.database import Database, sqlite_url
from tests.engines.voters import Town, answering, running
from tests.fakes.postgres import binaries

SECRETS = Secrets("super-secret-1", "super-secret-2", "super-secret-3", "super'secret-4")
PATIENCE_S = 120.0


def _soon() -> asyncio.Event:
    """Set after a while, whatever has changed."""
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, event.set)
    return event


@dataclass
class Member:
    """A host's PostgreSQL, run by the daemon's service; ``epoch`` is what its assignment would say."""

    site: DbSite
    voters: Callable[[], Sequence[Endpoint]]
    store: EtcdStore
    epoch: int | None = None
    whole: bool = True  # all of the database is in PostgreSQL
    state: RoleState | None = None
    reasons: list[str] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    fenced: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mirror = Mirror(self.store, SystemClock())
        self.database = Database(sqlite_url(self.site.folder / "none.sqlite"))
        self.copy = Database(sqlite_url(self.site.folder / "none.sqlite"), read_only=True)
        self.copy.hold()
        self.rest = Rest(self.site.rest_url, self.site.host, trust.client_context(self.site.credentials))

    def start(self) -> None:
        clock = SystemClock()
        host = DatabaseHost(lambda: self.site, self.site.folder.parent / "logs", clock)
        copy = LocalCopy(self.copy, lambda: self.whole, clock)
        service = postgres.service(Told(self), host, self.database, copy=copy, store=self.store)
        self.tasks = [asyncio.create_task(service.run(self._report)), asyncio.create_task(self.mirror.run())]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks = []
        await self.database.close()

    async def ready(self) -> None:
        await until(lambda: self.state is RoleState.READY, f"{self.site.host} ready", self.log)

    def processes(self) -> list[psutil.Process]:
        """Whatever runs for this member: guardian, Patroni, server."""
        return processes_of(self.site.folder)

    def power_cut(self) -> None:
        """Everything of it ends at once; the supervisor starts it again."""
        for one in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGKILL)

    async def serving(self) -> None:
        """Until its database admits users."""
        async with asyncio.timeout(PATIENCE_S):
            while self.database.is_sqlite or not await self._answers():
                await asyncio.sleep(0.02)

    async def _answers(self) -> bool:
        try:
            async with self.database.read() as session:
                await session.execute(text("SELECT 1"))
        except MorganError:
            return False
        return True

    def log(self, length: int = 4000) -> str:
        file = self.site.folder.parent / "logs/db.log"
        return file.read_text()[-length:] if file.exists() else ""

    def _report(self, state: RoleState, reason: str | None) -> None:
        self.state = state
        if reason:
            self.reasons.append(reason)


@dataclass(frozen=True)
class Told:
    """What a member goes by. Implements ``DatabaseCluster``."""

    member: Member

    def epoch(self) -> int | None:
        return self.member.epoch

    def leads(self) -> bool:
        return patroni_in(self.member.mirror).leader == self.member.site.host

    def fenced(self) -> Mapping[str, str]:
        return self.member.fenced

    def quiet(self) -> frozenset[str]:
        return frozenset(self.member.fenced)

    def voters(self) -> Sequence[Endpoint]:
        return self.member.voters()

    def agreed_post(self) -> int:
        return 0

    def changed(self) -> asyncio.Event:
        return self.member.mirror.next()

    def heard(self) -> asyncio.Event:
        return _soon()

    async def secrets(self) -> Secrets:
        return SECRETS


def processes_of(folder: Path) -> list[psutil.Process]:
    """Those that name the folder, and all below them."""
    named = [one for one in psutil.process_iter() if str(folder) in _said_by(one)]
    below: list[psutil.Process] = []
    for one in named:
        with contextlib.suppress(psutil.NoSuchProcess):
            below += one.children(recursive=True)
    return [one for one in dict.fromkeys((*named, *below)) if one.pid != os.getpid()]


def _said_by(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


async def _alone(site: DbSite, voter: Endpoint) -> None:
    client = EtcdClient(lambda: [voter], trust.client_context(site.credentials), name=site.host)
    member = Member(site, lambda: [voter], EtcdStore(client), epoch=1)
    member.start()
    await member.ready()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def until(reached: Callable[[], bool], what: str, log: Callable[[], str] = lambda: "") -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not reached():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not {what}: {log()}") from None


class Trio:
    """``store`` is the cluster's, where Patroni has its keys."""

    def __init__(self, town: Town, store: EtcdStore) -> None:
        self.town, self.store = town, store
        self.members: dict[str, Member] = {}

    def member(self, name: str) -> Member:
        place = self.town.voters[name].place
        root = self.town.folder / f"{name}-data"
        root.mkdir(mode=0o700)
        programs = binaries()
        assert programs is not None
        site = DbSite(name, "127.0.0.1", free_ports(), root / "db", place.folder, programs, 1024)
        self.members[name] = Member(site, lambda: [self.town.voters["h1"].endpoint], self.store)
        return self.members[name]

    async def standings(self) -> dict[str, Standing]:
        found, revision = await self.store.list(keys.PATRONI)
        return {one.host: one for one in standings(Patroni({item.key: item for item in found}, revision))}

    async def standing(self, wanted: Callable[[dict[str, Standing]], bool], what: str) -> dict[str, Standing]:
        found: dict[str, Standing] = {}
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not wanted(found):
                    await asyncio.sleep(0.05)
                    found = await self.standings()
        except TimeoutError:
            logs = "\n".join(f"--- {one.site.host}\n{one.log()}" for one in self.members.values())
            raise AssertionError(f"not {what}: {found}\n{logs}") from None
        return found


@contextlib.contextmanager
def closed_folder() -> Iterator[Path]:
    """One that the server's account cannot pass through by itself, with a short path: sockets lie under it."""
    with tempfile.TemporaryDirectory(prefix="pa-", dir="/tmp") as made:
        yield Path(made)


@contextlib.asynccontextmanager
async def trio(net: int) -> AsyncIterator[Trio]:
    """A voter of etcd, and credentials for the hosts h1, h2, h3."""
    with closed_folder() as folder:
        town = Town(folder, net)
        first, _, _ = (town.host(number) for number in (1, 2, 3))
        first.process.prepare({"h1": first.place.peer_url}, existing=False)
        made = Trio(town, town.store(endpoints=["h1"]))
        try:
            async with running([first]):
                await answering(town.client(endpoints=["h1"]), [first])
                try:
                    yield made
                finally:
                    await asyncio.gather(*(one.stop() for one in made.members.values()))
        finally:
            await made.store.close()
            await town.close()


def free_ports() -> int:
    """The first of six ports, of which the last two are free."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                other.bind(("127.0.0.1", port + 1))
                return port - 4


if __name__ == "__main__":
    here = msgspec.json.decode(sys.argv[1], type=DbSite, dec_hook=lambda kind, value: kind(value))
    asyncio.run(_alone(here, msgspec.json.decode(sys.argv[2], type=Endpoint)))
