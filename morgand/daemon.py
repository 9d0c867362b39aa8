"""The composition root: build everything, start in order, stop in reverse.

Order: lock, identity, store, profile, APIs, then in one task group leadership, this host's record and profile, and what
it is assigned. A defect of what the host cannot do without ends the daemon, and the service manager starts it anew: the
copy of the store, the connection to the others, what performs roles. Everything else is begun again after a pause.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from functools import partial

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
from morgand.base.aio import Parts, in_order
from morgand.base.clock import Clock, SystemClock
from morgand.base.datadir import DataDir
from morgand.base.errors import MorganError, first_of
from morgand.cluster import member_file
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
from morgand.leader.leader_task import LeaderTask
from morgand.leader.leadership import Duty, Leader
from morgand.membership.connection import ClusterConnection
from morgand.membership.context import MembershipContext
from morgand.membership.identity import Purpose, claim, take_over
from morgand.membership.place import ClusterPlace
from morgand.peers.directory import ClusterDirectory
from morgand.roles.catalog import BY_NAME, ELECTIONS, SPECS, STORES
from morgand.roles.db.factory import DatabaseFactory
from morgand.roles.db.patroni_keys import patroni_in
from morgand.roles.db.spec import SPEC as DB
from morgand.roles.models import load_models
from morgand.security.keys import Keys
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
    """One run of morgand on one host.

    What asks something is made after what answers it: nothing that is handed on here reads a field that is set later
    (``tests/test_architecture.py``).
    """

    def __init__(self, config: Config, data: DataDir, identity: HostIdentity, store: SwitchStore, clock: Clock) -> None:
        self._config, self._data, self._identity, self._store, self._clock = config, data, identity, store, clock
        me, self._stop, self._handed_over = identity.id, asyncio.Event(), asyncio.Event()
        self._models = load_models(config.catalog_file)
        self._mirror = Mirror(store, clock)
        self._settings = SharedSettings(store, self._mirror, config)
        # what others ask of this host: its place, its health, what it has
        self._place = ClusterPlace(me, identity.cluster_id, member_file.read(data.root / "cluster"), self._mirror)
        self._health = RoleHealth(clock)
        self._disk = DiskMonitor(partial(probe, data.root), clock)
        self._registration = Registration(
            me, config, data.root, models=self._models, store=store, mirror=self._mirror, connection=self._place,
            disk=self._disk.found, clock=clock,
        )  # fmt: skip
        self._directory = ClusterDirectory(
            me, self._mirror, self._health.ready, specs=BY_NAME, leased=lambda: self._place.leased
        )
        logs.name_hosts(self._directory.names)
        # the assistant over engines here and elsewhere
        self._assignments = Assignments(self._models, config.models_dir)
        context = context_for(self._settings.current, data.root, data.run_dir(), clock, self._assignments)
        self._local = build_local(context, self._assignments)
        others = Neighbours(self._directory, self._place.client, clock)
        self._outbox = Outbox(data.root, config.host_name)
        self._parts = build(context, self._local, others, Delivery(self._outbox, self._patience_s, clock))
        self._replay = Replay(self._outbox, self._parts.assistant, clock)
        self._examiner = HostExaminer(data.root, alive=self._place.answers, upkeep=self._parts.ingestor, clock=clock)
        # what this host does by itself
        self._database = DatabaseFactory(
            me, data.root, self._local.database, copy=self._local.copy, membership=self._place.member,
            voters=self._place.voters, profile=self._registration.profile, term=self._directory.term,
            sight=self._place.sight, seen=self._place.next, store=store, mirror=self._mirror, clock=clock,
        )  # fmt: skip
        factory = services(context, self._assignments, self._local, self._parts, self._database)
        self._runner = Runner(factory, clock, self._health.heard)
        self._reporter = StatusReporter(me, store, self._runner.statuses, self._health, clock)
        self._host_agent = HostAgent(
            me, self._runner, self._assignments, mirror=self._mirror, directory=self._directory,
            connection=self._place, leaving=lambda: self._registration.leaving, clock=clock,
        )  # fmt: skip
        self._wanted = WantedModels(
            me, config.models_dir, mirror=self._mirror, inputs=self._inputs,
            allowed=lambda: self._settings.current().catalog.download, fetched=self._registration.refresh, clock=clock,
        )  # fmt: skip
        # its part in a cluster
        home = MembershipContext(
            config.host_name, data.root / "cluster", data.root / "spool", data.run_dir(), data.logs,
            config=self._settings.current, profile=self._registration.profile,
            exports={**self._local.exports(), doctor.PORT: doctor.export(self._examiner)},
        )  # fmt: skip
        self._connection = ClusterConnection(
            identity, home, self._place, store=store, mirror=self._mirror, directory=self._directory, clock=clock
        )
        leader = Leader(
            me, store=store, mirror=self._mirror, sights=self._place, inputs=self._inputs, clock=clock,
            duties=self._duties,
        )  # fmt: skip
        self._leading = LeaderTask(leader, store)
        self._drain = Drain(
            me, mirror=self._mirror, directory=self._directory, performed=self._runner.statuses,
            leave=self._registration.leave, resign=self._leading.resign,
        )  # fmt: skip

    async def main(self) -> None:
        """Everything from the first profile to the last engine's end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        await self._disk.look()
        await self._registration.look()
        if self._place.alone:
            await self._mirror.load()
        await self._outbox.open()
        sites = ApiServer()
        try:
            await sites.start(self._service(), self._data.socket, self._config.listen)
            self._registration.api_port = sites.port or 0
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
            parts = Parts(group)
            connected = parts.needed("connection", self._connection.run)
            stopping = group.create_task(self._stop.wait())
            ready = group.create_task(self._connection.ready())
            await asyncio.wait((stopping, ready), return_when=asyncio.FIRST_COMPLETED)
            self._leading.begin(group)
            tasks = [
                connected,
                ready,
                parts.needed("mirror", self._mirror.run),
                parts.needed("host-agent", self._host_agent.run),
                parts.dispensable("reporter", self._reporter.run),
                parts.dispensable("record", self._registration.keep_record),
                parts.dispensable("profile", self._registration.keep_profile),
                parts.dispensable("disk", partial(self._disk.run, self._registration.refresh)),
                parts.dispensable("downloads", self._wanted.run),
                parts.dispensable("outbox", self._replay.run),
                parts.dispensable("move", self._database.run),
                parts.dispensable("goodbyes", lambda: power_events().run(partial(self._handle, group))),
            ]
            log.info("running", extra={"host_id": self._identity.id})
            await self._stop.wait()
            await self._drain.run(HAND_OVER_S)
            self._handed_over.set()
            await self._connection.goodbye()
            for task in tasks:
                task.cancel()
            await self._leading.end()

    async def _handle(self, group: asyncio.TaskGroup, news: Leaving | Back) -> None:
        """The machine is about to go down, or to sleep, or is awake again."""
        match news:
            case Leaving(kind="shutdown"):
                self._stop.set()
                await self._handed_over.wait()
            case Leaving():
                await self._drain.run(news.within_s)
            case Back() if self._registration.leaving and not self._stop.is_set():
                self._registration.stay()
                await self._leading.begin_anew(group)
                await self._registration.refresh()

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
            self._place, self._store, self._mirror, self._clock, candidates=self._candidates,
            config=self._settings.current,
        )  # fmt: skip

    # --- the APIs --------------------------------------------------------------------------------

    def _service(self) -> ApiContext:
        observer = StatusObserver(
            mirror=self._mirror, inputs=self._inputs, statuses=self._runner.statuses, library=self._parts.library,
            config=self._settings.current, cluster_id=lambda: self._place.cluster_id, directory=self._directory,
            members=self._place.members, sight=self._place.sight,
            etcd=lambda: [one.url for one in self._place.voters()], profile=self._registration.profile,
            notes=self._notes,
        )  # fmt: skip
        members = HostAdmin(
            store=self._store, mirror=self._mirror, observer=observer, me=self._identity.id,
            invite=self._connection.invite, revoke=self._connection.revoke,
        )  # fmt: skip
        keys = Keys(StoredKeys(self._store, self._mirror), self._clock)
        stores = doctor.Stores(self._parts.library, self._parts.objects, self._parts.vectors)
        through = doctor.Doctor(
            self._examiner, directory=self._directory, client=self._place.client, stores=stores, status=observer.status,
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
