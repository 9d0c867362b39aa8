"""The composition root: build everything, start in order, stop in reverse.

Order: lock, identity, store, profile, APIs, then in one task group leadership, this host's record and profile, and what
it is assigned. A task that ends by itself ends the daemon: its supervisor starts it anew. What only serves convenience
is begun again instead.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from morgand.admin import doctor
from morgand.admin.api_keys import StoredKeys
from morgand.admin.hosts import HostAdmin
from morgand.admin.settings import SharedSettings
from morgand.admin.status import EngineLogs, StatusObserver
from morgand.admin.views import outbox_warnings
from morgand.api.backend import Backend
from morgand.api.server import ApiServer
from morgand.api.service import ApiContext
from morgand.assistant.delivery import Delivery
from morgand.assistant.replay import Replay, patience_s
from morgand.base import log as logs
from morgand.base.aio import dispensable, in_order
from morgand.base.clock import Clock, SystemClock
from morgand.base.datadir import DataDir
from morgand.base.errors import MorganError, first_of
from morgand.cluster import election
from morgand.cluster.etcd import Endpoint
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.snapshot import Inputs, read_snapshot
from morgand.cluster.switch import SwitchStore
from morgand.cluster.voters import VoterCandidate
from morgand.config import Config
from morgand.fingerprint.disk import probe
from morgand.fingerprint.host_id import HostIdentity
from morgand.host.agent import HostAgent
from morgand.host.assignments import Assignments
from morgand.host.disk_monitor import DiskMonitor
from morgand.host.drain import Drain
from morgand.host.examination import HostExaminer
from morgand.host.power.events import Back, Leaving
from morgand.host.power.machine import power_events
from morgand.host.registration import Registration
from morgand.host.role_health import RoleHealth
from morgand.host.runner import Runner
from morgand.host.status_reporter import StatusReporter
from morgand.host.wanted_models import WantedModels
from morgand.leader.leadership import Duty, Leader
from morgand.membership.connection import ClusterConnection
from morgand.membership.context import MembershipContext
from morgand.membership.identity import Purpose, claim, take_over
from morgand.peers.client import PeerClient
from morgand.peers.directory import ClusterDirectory
from morgand.roles.catalog import BY_NAME, ELECTIONS, SPECS, STORES
from morgand.roles.db.factory import DatabaseFactory
from morgand.roles.db.patroni_keys import patroni_in
from morgand.roles.db.spec import SPEC as DB
from morgand.roles.models import load_models
from morgand.security.keys import Keys
from morgand.state.hosts import PeerHealth
from morgand.state.roles import RoleStatus
from morgand.storage.outbox import Outbox
from morgand.wiring import Neighbours, build, build_local, context_for, leader_duties, services

log = logging.getLogger("morgand.daemon")

HAND_OVER_S = 15.0


def run(config: Config) -> None:
    """Run until SIGTERM or SIGINT. Raises MorganError when it cannot start."""
    os.umask(0o077)
    logs.setup(config.log.level, config.log.format, config.host_name)
    with DataDir(config.data_dir, STORES) as data:
        asyncio.run(_main(config, data))


async def _main(config: Config, data: DataDir) -> None:
    found = await asyncio.to_thread(claim, data.root, Purpose.RUN)
    identity, member = found.identity, found.member is not None
    store = SwitchStore(await LocalStore.open(data.root / "cluster"), paused=member)
    try:
        if not member:
            await take_over(store, identity.id)
        daemon = Daemon(config, data, identity, store, SystemClock())
        await daemon.main()
    finally:
        await store.close()


class Daemon:
    """One run of morgand on one host."""

    def __init__(self, config: Config, data: DataDir, identity: HostIdentity, store: SwitchStore, clock: Clock) -> None:
        self._config, self._data, self._identity, self._store, self._clock = config, data, identity, store, clock
        self._models = load_models(config.catalog_file)
        self._mirror = Mirror(store, clock)
        self._settings = SharedSettings(store, self._mirror, config)
        self._assignments = Assignments(self._models, config.models_dir)
        context = context_for(self._settings.current, data.root, data.run_dir(), clock, self._assignments)
        self._local = build_local(context, self._assignments)
        self._directory = ClusterDirectory(
            identity.id, self._mirror, self._statuses, specs=BY_NAME, leased=lambda: self._connection.leased
        )
        logs.name_hosts(self._directory.names)
        others = Neighbours(self._directory, self._peers, clock)
        self._outbox = Outbox(data.root, config.host_name)
        self._parts = build(context, self._local, others, Delivery(self._outbox, self._patience_s, clock))
        self._replay = Replay(self._outbox, self._parts.assistant, clock)
        self._database = DatabaseFactory(
            identity.id, data.root, self._local.database, copy=self._local.copy,
            membership=lambda: self._connection.member,
            voters=self._voters, profile=lambda: self._presence.profile, term=self._directory.term,
            sight=self._peer_health, seen=self._seen, store=store, mirror=self._mirror, clock=clock,
        )  # fmt: skip
        factory = services(context, self._assignments, self._local, self._parts, self._database)
        self._health = RoleHealth(clock)
        self._runner = Runner(factory, clock, self._heard)
        self._reporter = StatusReporter(identity.id, store, self._runner.statuses, self._health.failures, clock)
        self._examiner = HostExaminer(data.root, alive=self._answers, upkeep=self._parts.ingestor, clock=clock)
        home = MembershipContext(
            config.host_name, data.root / "cluster", data.root / "spool", data.run_dir(), data.logs,
            config=self._settings.current,
            profile=lambda: self._presence.profile,
            exports={**self._local.exports(), doctor.PORT: doctor.export(self._examiner)},
        )  # fmt: skip
        self._connection = ClusterConnection(
            identity, home, store=store, mirror=self._mirror, directory=self._directory, clock=clock
        )
        self._disk = DiskMonitor(partial(probe, data.root), clock)
        self._presence = Registration(
            identity.id, config, data.root, models=self._models, store=store, mirror=self._mirror,
            connection=self._connection, disk=lambda: self._disk.disk, clock=clock,
        )  # fmt: skip
        self._performer = HostAgent(
            identity.id, self._runner, self._assignments, mirror=self._mirror, directory=self._directory,
            connection=self._connection, leaving=lambda: self._presence.leaving, clock=clock,
        )  # fmt: skip
        self._leader = Leader(
            identity.id, store=store, mirror=self._mirror, sights=self._connection, inputs=self._inputs, clock=clock,
            duties=self._duties,
        )  # fmt: skip
        self._handover = Drain(
            identity.id, mirror=self._mirror, directory=self._directory, performed=self._statuses,
            leave=self._presence.leave, resign=self._resign,
        )  # fmt: skip
        self._wanted = WantedModels(
            identity.id, config.models_dir, mirror=self._mirror, inputs=self._inputs,
            allowed=lambda: self._settings.current().catalog.download, fetched=self._presence.refresh, clock=clock,
        )  # fmt: skip
        self._stop, self._handed_over = asyncio.Event(), asyncio.Event()
        self._leading: asyncio.Task[None]  # from the start on

    async def main(self) -> None:
        """Everything from the first profile to the last engine's end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        await self._disk.look()
        await self._presence.look()
        if self._connection.alone:
            await self._mirror.load()
        await self._outbox.open()
        sites = ApiServer()
        try:
            await sites.start(self._service(), self._data.socket, self._config.listen)
            self._presence.api_port = sites.port or 0
            await self._until_stopped()
        except BaseExceptionGroup as group:
            expected = group.subgroup(MorganError)
            if expected is None:
                raise
            raise first_of(expected) from None
        finally:
            log.info("stopping")
            self._data.socket.unlink(missing_ok=True)
            await in_order(sites.close, self._parts.assistant.close, self._runner.stop, self._local.close)

    async def _until_stopped(self) -> None:
        async with asyncio.TaskGroup() as group:
            fabric = group.create_task(self._connection.run(), name="connection")
            stopping = group.create_task(self._stop.wait())
            ready = group.create_task(self._connection.ready())
            await asyncio.wait((stopping, ready), return_when=asyncio.FIRST_COMPLETED)
            self._leading = group.create_task(self._leader.run(), name="leader")

            def beside(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
                return group.create_task(dispensable(name, work), name=name)

            tasks = [
                fabric, ready,
                group.create_task(self._mirror.run(), name="mirror"),
                group.create_task(self._reporter.run(), name="reporter"),
                group.create_task(self._performer.run(), name="runner"),
                group.create_task(self._presence.keep_record(), name="record"),
                beside("profile", self._presence.keep_profile),
                beside("disk", partial(self._disk.run, self._presence.refresh)),
                beside("downloads", self._wanted.run),
                group.create_task(self._replay.run(), name="outbox"),
                group.create_task(self._database.run(), name="move"),
                beside("goodbyes", lambda: power_events().run(partial(self._handle, group))),
            ]  # fmt: skip
            log.info("running", extra={"host_id": self._identity.id})
            await self._stop.wait()
            await self._handover.run(HAND_OVER_S)
            self._handed_over.set()
            await self._connection.goodbye()
            for task in (*tasks, self._leading):
                task.cancel()

    async def _handle(self, group: asyncio.TaskGroup, news: Leaving | Back) -> None:
        """The machine is about to go down, or to sleep, or is awake again."""
        match news:
            case Leaving(kind="shutdown"):
                self._stop.set()
                await self._handed_over.wait()
            case Leaving():
                await self._handover.run(news.within_s)
            case Back() if self._presence.leaving and not self._stop.is_set():
                self._presence.stay()
                await self._stop_leading()
                self._leading = group.create_task(self._leader.run(), name="leader")
                await self._presence.refresh()

    async def _resign(self) -> None:
        """Lead no more; whoever takes over need not wait until this host is missed."""
        held = self._leader.held
        await self._stop_leading()
        if held is not None:
            await election.resign(self._store, held)

    async def _stop_leading(self) -> None:
        self._leading.cancel()
        await asyncio.wait((self._leading,))

    def _heard(self, status: RoleStatus) -> None:
        self._health.heard(status)
        self._reporter.tell()

    def _statuses(self) -> list[RoleStatus]:
        return self._runner.statuses()

    def _peer_health(self, host: str) -> PeerHealth | None:
        return self._connection.sight(host)

    def _seen(self) -> asyncio.Event:
        return self._connection.next()

    def _voters(self) -> Sequence[Endpoint]:
        return self._connection.voters()

    def _peers(self) -> PeerClient | None:
        return self._connection.client()

    async def _answers(self, host: str, within_s: float) -> bool:
        client = self._peers()
        return client is not None and await client.alive(host, within_s)

    def _patience_s(self) -> float:
        return patience_s(self._directory.state_of(DB.name), self._mirror.lost_s)

    def _notes(self) -> list[str]:
        box, refused = self._outbox, [one.reason or "" for one in self._outbox.refused()]
        kept = outbox_warnings(box.host, box.undelivered, refused, box.damaged)
        return self._wanted.notes() + kept

    # --- the host's part of the cluster ----------------------------------------------------------

    def _candidates(self) -> list[VoterCandidate]:
        """Hosts that could vote, as they are known here."""
        snapshot = read_snapshot(self._mirror.view, self._inputs())
        ports = {host: record.peer.rpartition(":")[2] for host, record in self._directory.hosts().items()}
        primary = patroni_in(self._mirror).leader
        return [
            VoterCandidate(host, int(ports[host.id]), primary=host.id == primary)
            for host in snapshot.hosts
            if ports.get(host.id)
        ]

    def _inputs(self) -> Inputs:
        preferences = self._settings.current().preferences()
        return Inputs(SPECS, self._models, preferences, self._clock.now(), ELECTIONS)

    def _duties(self) -> tuple[Duty, ...]:
        return leader_duties(
            self._connection, self._store, self._mirror, self._clock, candidates=self._candidates,
            config=self._settings.current,
        )  # fmt: skip

    # --- the APIs --------------------------------------------------------------------------------

    def _service(self) -> ApiContext:
        observer = StatusObserver(
            mirror=self._mirror, inputs=self._inputs, statuses=self._statuses, library=self._parts.library,
            config=self._settings.current, cluster_id=lambda: self._connection.cluster_id, directory=self._directory,
            members=self._connection.members, sight=self._connection.sight,
            etcd=lambda: [one.url for one in self._voters()], profile=lambda: self._presence.profile,
            notes=self._notes,
        )  # fmt: skip
        members = HostAdmin(
            store=self._store, mirror=self._mirror, observer=observer, me=self._identity.id,
            invite=self._connection.invite, revoke=self._connection.revoke,
        )  # fmt: skip
        keys = Keys(StoredKeys(self._store, self._mirror), self._clock)
        stores = doctor.Stores(self._parts.library, self._parts.objects, self._parts.vectors)
        through = doctor.Doctor(
            self._examiner, directory=self._directory, client=self._peers, stores=stores, status=observer.status,
            keys=keys.list, clock=self._clock,
        )  # fmt: skip
        backend = Backend(
            assistant=self._parts.assistant, ingestor=self._parts.ingestor, history=self._parts.history,
            library=self._parts.library, chat=self._parts.chat, embedder=self._parts.embedder,
            reranker=self._parts.reranker, cluster=observer, members=members, doctor=through,
            settings=self._settings, keys=keys, logs=EngineLogs(self._data.logs),
            spool=self._data.root / "spool", outbox=self._outbox,
        )  # fmt: skip
        return ApiContext(backend, lambda: self._settings.current().limits, self._clock)
