"""Perform the database role here with PostgreSQL: an unmodified Patroni in a process, and the server it starts.

Patroni decides which host is the primary. Where it is this one, Morgan's ``Database`` goes over to the server's socket;
where it is no longer, the database is held at once (``promotion`` decides, ``watch`` performs). One service for
whatever part this host has: the part changes while it runs.
"""

from __future__ import annotations

import asyncio
import sys

from morgand.base.errors import MorganError
from morgand.cluster.store import ClusterStore
from morgand.process.account import becoming, engine_account
from morgand.process.supervisor import Child, ChildSpec, Report
from morgand.roles.base import RoleService
from morgand.roles.db import bootstrap, files
from morgand.roles.db.cluster import DatabaseCluster
from morgand.roles.db.copy import LocalCopy
from morgand.roles.db.etcd_proxy import EtcdProxy
from morgand.roles.db.holding import Holding
from morgand.roles.db.life import DatabaseHost, PatroniSetup, RoleReport
from morgand.roles.db.patroni import STOP_S, pg_hba
from morgand.roles.db.patroni_keys import patroni_now
from morgand.roles.db.site import Secrets
from morgand.roles.db.upkeep import DatabaseUpkeep
from morgand.roles.db.watch import ServerWatch
from morgand.security import trust
from morgand.state.roles import RoleState
from morgand.storage.database import Database

RETRY_S = 5.0
GRACE_S = 4 * STOP_S  # for Patroni to hand over and stop the server


def service(
    cluster: DatabaseCluster, host: DatabaseHost, database: Database, *, copy: LocalCopy, store: ClusterStore
) -> RoleService:
    """``database`` is admitted in the epoch of this host's assignment. ``copy`` is offered for as long as the server
    answers, whatever it is."""
    return PostgresService(cluster, host, database, copy, store)


class PostgresService:
    """Implements ``RoleService``."""

    def __init__(
        self, cluster: DatabaseCluster, host: DatabaseHost, database: Database, copy: LocalCopy, store: ClusterStore
    ) -> None:
        self._cluster, self._host, self._copy, self._store = cluster, host, copy, store
        self._holding = Holding(database, cluster.epoch, cluster.agreed_post, host.clock)
        self._proxy = EtcdProxy(cluster.voters, host.clock)

    async def run(self, report: Report) -> None:
        """What is missing on this host is reported, with the remedy, and looked for again."""
        said, clock = RoleReport(report, lambda: self._copy.whole), self._host.clock
        watch = ServerWatch(self._cluster, self._holding, self._copy, said, store=self._store, clock=clock)
        secrets = await self._cluster.secrets()
        async with self._proxy.listening() as etcd_port:
            while True:
                try:
                    setup = await self._set_up(secrets, etcd_port)
                except MorganError as err:
                    said.say(RoleState.FAILED, str(err))
                    await clock.sleep(RETRY_S)
                else:
                    await self._live(setup, watch, said)

    async def _set_up(self, secrets: Secrets, etcd_port: int) -> PatroniSetup:
        """Raises MorganError."""
        site, account = self._host.site(), engine_account()
        tls = await asyncio.to_thread(trust.client_context, site.credentials)
        return PatroniSetup(site, secrets, account, etcd_port, tls)

    async def _prepare(self, setup: PatroniSetup, watch: ServerWatch) -> None:
        """Before every start of Patroni. Data that were never whole, and that nobody counts on, go."""
        doubtful = await asyncio.to_thread(files.in_doubt, setup.site)
        if doubtful and bootstrap.expendable(await patroni_now(self._store), setup.site.host):
            await asyncio.to_thread(files.set_aside, setup.site)
        await asyncio.to_thread(files.prepare, setup.site, setup.account)
        await asyncio.to_thread(files.write_access, setup.site, setup.account, pg_hba())
        watch.none_refused()
        await asyncio.to_thread(setup.write_config)

    async def _live(self, setup: PatroniSetup, watch: ServerWatch, said: RoleReport) -> None:
        """Until the site has changed."""
        clock = self._host.clock
        child = Child(self._spec(setup), setup.rest.alive, clock, lambda: self._prepare(setup, watch))
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(child.run(said.of_patroni)),
                group.create_task(watch.run(setup)),
                group.create_task(self._avoid_quiet_voters()),
            ]
            await DatabaseUpkeep(self._host, setup, watch, said, self._store).run()
            for task in running:
                task.cancel()

    def _spec(self, setup: PatroniSetup) -> ChildSpec:
        guardian = (sys.executable, "-m", "morgand.process.reaper", str(GRACE_S))
        return ChildSpec(
            name="db",
            argv=(
                *becoming(setup.account, setup.site.folder, setup.sockets), *guardian,
                sys.executable, "-m", "patroni", str(setup.site.config),
            ),
            options={},
            log_file=self._host.log_dir / "db.log",
            env={
                "LANG": "C.UTF-8",
                "HOME": str(setup.site.server),
                "RES_OPTIONS": "timeout:1 attempts:1",  # its web server asks for its own name, perhaps of nobody
            },
            stop_grace_s=GRACE_S + STOP_S,
            apart=True,
        )  # fmt: skip

    async def _avoid_quiet_voters(self) -> None:
        """Patroni does not wait for those that may be gone."""
        avoided: frozenset[str] = frozenset()
        while True:
            heard, quiet = self._cluster.heard(), self._cluster.quiet()
            if quiet - avoided:
                self._proxy.avoid(quiet - avoided)
            avoided = quiet
            await heard.wait()
