"""The composition root: build everything, start in order, stop in reverse.

Order: lock, identity, store, profile, leadership, then in one task group the planner, the runner's assignments, the
settings, the profile's upkeep and the APIs. A task that ends by itself ends the daemon: its supervisor starts it anew.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from morgand import __version__
from morgand import log as logs
from morgand.account import why_no_way
from morgand.api.backend import Backend
from morgand.api.service import Service
from morgand.assembly import PERFORMED, Assignments, Neighbours, build, build_local, context_for, services
from morgand.assistant.delivery import Delivery
from morgand.clock import Clock, SystemClock
from morgand.cluster import codec, election, keys, membership
from morgand.cluster.etcd import Endpoint
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import Item, Put, Unchanged
from morgand.cluster.switch import SwitchStore
from morgand.cluster.voters import Candidate
from morgand.config import Config
from morgand.database_home import DatabaseHome
from morgand.datadir import DataDir
from morgand.directory import ClusterDirectory
from morgand.errors import ConfigError, Fenced, MorganError, StorageFull, StoreConflict, Unavailable
from morgand.fabric import Fabric
from morgand.fingerprint.collect import collect
from morgand.fingerprint.host_id import HostIdentity, load_or_create
from morgand.fingerprint.override import read_override
from morgand.goodbye import Back, Leaving, power_events
from morgand.home import Home
from morgand.keystore import StoredKeys
from morgand.leader import Leader
from morgand.members import Members
from morgand.observer import EngineLogs, Observer
from morgand.overview import outbox_warnings
from morgand.peers.client import PeerClient
from morgand.planner import Inputs, read_snapshot, wanted_downloads
from morgand.primary import patroni_in
from morgand.replay import Replay, patience_s
from morgand.reporter import Reporter
from morgand.roles.catalog import BY_NAME, SPECS
from morgand.roles.db.succession import ENGINE as POSTGRESQL
from morgand.roles.downloads import Fetcher
from morgand.roles.models import available, load_models
from morgand.runner import Runner
from morgand.security.keys import Keys
from morgand.settings import Settings
from morgand.sites import Sites
from morgand.state import Assignment, Duty, HostState, Profile, RoleState, RoleStatus
from morgand.storage.outbox import Outbox

log = logging.getLogger("morgand.daemon")

PROFILE_EVERY_S = 60.0
RECORD_RETRY_S = 0.5
HAND_OVER_S = 15.0
DISK_CHANGE = 0.05  # of the free space: less is not worth a write and a plan
CUT_OFF_S = 2.0  # without the others for so long: another host may hold by now what this one held
DOWNLOAD_RETRY_S = 3600.0
PROGRAMS = ("etcd", "serf")  # what the cluster itself runs on
ENGINES_THAT_HELP_INGEST = ("embedder", "vectors")


def run(config: Config) -> None:
    """Run until SIGTERM or SIGINT. Raises MorganError when it cannot start."""
    os.umask(0o077)
    logs.setup(config.log.level, config.log.format, config.host_name)
    with DataDir(config.data_dir) as data:
        asyncio.run(_main(config, data))


async def _main(config: Config, data: DataDir) -> None:
    identity = await asyncio.to_thread(load_or_create, data.root)
    folder = data.root / "cluster"
    member = membership.read(folder) is not None
    store = SwitchStore(await LocalStore.open(folder), paused=member)
    try:
        daemon = Daemon(config, data, identity, store, SystemClock())
        await daemon.main()
    finally:
        await store.close()


class Daemon:
    """One run of morgand on one host."""

    def __init__(self, config: Config, data: DataDir, identity: HostIdentity, store: SwitchStore, clock: Clock) -> None:
        self._config, self._data, self._identity, self._store, self._clock = config, data, identity, store, clock
        self._models = load_models(Path(config.catalog.file) if config.catalog.file else None)
        self._models_dir = Path(config.catalog.models_dir or data.root / "models")
        self._mirror = Mirror(store, clock)
        self._settings = Settings(store, self._mirror, config)
        self._assignments = Assignments(self._models, self._models_dir)
        context = context_for(self._settings.current, data.root, data.run_dir(), clock, self._assignments)
        self._local = build_local(context, self._assignments)
        self._directory = ClusterDirectory(
            identity.id, self._mirror, self._statuses, leased=lambda: self._fabric.leased
        )
        others = Neighbours(self._directory, self._peers, clock)
        self._outbox = Outbox(data.root, config.host_name)
        self._parts = build(context, self._local, others, Delivery(self._outbox, self._patience_s, clock))
        self._replay = Replay(self._outbox, self._parts.assistant, clock)
        self._database = DatabaseHome(
            identity.id, data.root, self._local.database, membership=lambda: self._fabric.member,
            voters=self._voters, profile=lambda: self._known, term=self._directory.term, store=store,
            mirror=self._mirror, clock=clock,
        )  # fmt: skip
        factory = services(context, self._assignments, self._local, self._parts, self._database)
        self._runner = Runner(factory, clock, self._role_changed)
        self._reporter = Reporter(identity.id, store, self._runner.statuses, clock)
        home = Home(
            config.host_name, data.root / "cluster", data.root / "spool", data.run_dir(), data.logs,
            config=self._settings.current,
            profile=lambda: self._known, exports=self._local.exports(), candidates=self._candidates,
        )  # fmt: skip
        self._fabric = Fabric(identity, home, store=store, mirror=self._mirror, directory=self._directory, clock=clock)
        self._leader = Leader(
            identity.id, store=store, mirror=self._mirror, sights=self._fabric, inputs=self._inputs, clock=clock,
            duties=self._fabric.duties,
        )  # fmt: skip
        self._fetcher = Fetcher(self._models_dir)
        self._stop, self._handed_over = asyncio.Event(), asyncio.Event()
        self._leading: asyncio.Task[None]  # from the start on
        self._leaving = False
        self._api_port = 0
        self._known: Profile  # set before anything else runs

    async def main(self) -> None:
        """Everything from the first profile to the last engine's end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._known = await self._profile()
        if self._fabric.alone:
            await self._mirror.load()
        await self._outbox.open()
        sites = Sites()
        try:
            await sites.start(self._service(), self._data.socket, self._config.listen)
            self._api_port = sites.port or 0
            await self._until_stopped()
        except BaseExceptionGroup as group:
            expected = group.subgroup(MorganError)
            if expected is None:
                raise
            raise _first(expected) from None
        finally:
            log.info("stopping")
            await sites.close()
            await self._runner.stop()
            await self._local.close()
            self._data.socket.unlink(missing_ok=True)

    async def _until_stopped(self) -> None:
        async with asyncio.TaskGroup() as group:
            fabric = group.create_task(self._fabric.run(), name="fabric")
            stopping = group.create_task(self._stop.wait())
            ready = group.create_task(self._fabric.ready())
            await asyncio.wait((stopping, ready), return_when=asyncio.FIRST_COMPLETED)
            self._leading = group.create_task(self._leader.run(), name="leader")
            tasks = [
                fabric, ready,
                group.create_task(self._mirror.run(), name="mirror"),
                group.create_task(self._reporter.run(), name="reporter"),
                group.create_task(self._follow_assignments(), name="runner"),
                group.create_task(self._keep_record(), name="record"),
                group.create_task(self._keep_profile(), name="profile"),
                group.create_task(self._fetch_models(), name="downloads"),
                group.create_task(self._replay.run(), name="outbox"),
                group.create_task(self._database.run(), name="move"),
                group.create_task(power_events().run(partial(self._heed, group)), name="goodbyes"),
            ]  # fmt: skip
            log.info("running", extra={"host_id": self._identity.id})
            await self._stop.wait()
            await self._hand_over(HAND_OVER_S)
            self._handed_over.set()
            await self._fabric.goodbye()
            for task in (*tasks, self._leading):
                task.cancel()

    async def _heed(self, group: asyncio.TaskGroup, news: Leaving | Back) -> None:
        """The machine is about to go down, or to sleep, or is awake again."""
        match news:
            case Leaving(kind="shutdown"):
                self._stop.set()
                await self._handed_over.wait()
            case Leaving():
                await self._hand_over(news.within_s)
            case Back() if self._leaving and not self._stop.is_set():
                self._leaving = False
                self._leading.cancel()
                await asyncio.wait((self._leading,))
                self._leading = group.create_task(self._leader.run(), name="leader")
                await self._refresh()

    def _statuses(self) -> list[RoleStatus]:
        return self._runner.statuses()

    def _voters(self) -> Sequence[Endpoint]:
        return self._fabric.voters()

    def _peers(self) -> PeerClient | None:
        return self._fabric.client()

    def _patience_s(self) -> float:
        return patience_s(self._directory.state_of("db"), self._mirror.lost_s)

    def _notes(self) -> list[str]:
        box, refused = self._outbox, [one.reason or "" for one in self._outbox.refused()]
        kept = outbox_warnings(box.host, box.undelivered, refused, box.damaged)
        return self._fetcher.notes() + kept

    # --- the host's part of the cluster ----------------------------------------------------------

    async def _hand_over(self, within_s: float) -> None:
        """Say that this host leaves and wait until others have what can be elsewhere; skipped on a lone host."""
        if not self._directory.others() or not self._mirror.current:
            return
        self._leaving = True
        mine = {one.role for one in self._runner.statuses()}
        try:
            async with asyncio.timeout(within_s):
                await self._write_record(HostState.LEFT)
                held = self._leader.held
                self._leading.cancel()
                await asyncio.wait((self._leading,))
                if held is not None:
                    await election.resign(self._store, held)
                while self._anybody_else() and any(self._moves(role) for role in mine):
                    await self._mirror.next().wait()
        except (TimeoutError, MorganError) as err:
            log.warning("not everything was handed over", extra={"reason": str(err) or "it took too long"})

    def _anybody_else(self) -> bool:
        """Whether another host is there that could take something over."""
        return any(
            record.state in (HostState.ALIVE, HostState.SUSPECT)
            for host, record in self._directory.hosts().items()
            if host != self._identity.id
        )

    def _moves(self, role: str) -> bool:
        """Whether a role is still on its way from here to another host."""
        if role == "db" and patroni_in(self._mirror).leader == self._identity.id:
            return True  # whatever is assigned by now
        if self._directory.held(role) is not None:
            return not self._is_bound(role)
        holders = [one for one in self._directory.holders(role) if one.host != self._identity.id]
        return bool(holders) and not any(one.ready for one in holders)

    def _is_bound(self, role: str) -> bool:
        held = self._directory.held(role)
        return held is not None and BY_NAME[role].binds(held.engine)

    def _candidates(self) -> list[Candidate]:
        """Hosts that could vote, as they are known here."""
        snapshot = read_snapshot(self._mirror.list("/"), self._mirror.revision, self._inputs())
        ports = {host: record.peer.rpartition(":")[2] for host, record in self._directory.hosts().items()}
        primary = patroni_in(self._mirror).leader
        return [
            Candidate(host, int(ports[host.id]), primary=host.id == primary)
            for host in snapshot.hosts
            if ports.get(host.id)
        ]

    def _inputs(self) -> Inputs:
        return Inputs(SPECS, self._models, self._settings.current().preferences(), self._clock.now())

    async def _profile(self) -> Profile:
        host = self._config.host
        override = (
            await asyncio.to_thread(read_override, Path(host.profile_override)) if host.profile_override else None
        )
        models = await asyncio.to_thread(available, self._models, self._models_dir)
        profile = await asyncio.to_thread(
            collect, self._data.root, duty=Duty(host.duty), address=host.address, models=models, override=override
        )
        engines = {*PERFORMED, *PROGRAMS}
        if profile.has_engine(POSTGRESQL) and (closed := await asyncio.to_thread(why_no_way, self._data.root.parent)):
            engines.discard(POSTGRESQL)
            log.debug("no PostgreSQL here", extra={"reason": closed})
        return replace(profile, engines=tuple(one for one in profile.engines if one.name in engines))

    async def _keep_record(self) -> None:
        """What this host says it is stands in the store, whatever happens to it there.

        It is away until the others count on it: whoever has just started is not missed.
        """
        while True:
            changed, seen = self._mirror.next(), self._fabric.next()
            try:
                await self._write_record(HostState.ALIVE)
            except (Unavailable, StorageFull, StoreConflict) as err:
                log.debug("record not written", extra={"reason": err.message})
                await self._clock.sleep(RECORD_RETRY_S)
                continue
            await either(changed, seen)

    async def _write_record(self, state: HostState) -> None:
        """Write the record and the profile if they differ. What others decide about a host is kept.

        Raises Fenced when this host was removed from its cluster.
        """
        if self._leaving and state is HostState.ALIVE:
            return
        me = self._identity.id
        if not self._fabric.alone and self._mirror.revision and self._mirror.get(keys.member(me)) is None:
            raise Fenced(
                "This host was removed from its cluster.",
                remedy="Invite it again and run `morgand join`, or start anew.",
            )
        item, profile = self._mirror.get(keys.host(me)), self._mirror.get(keys.profile(me))
        old = codec.decode(codec.HostRecord, item.value, key=item.key) if item else None
        kept = old.state if old and (old.state in (HostState.FENCED, HostState.SUSPECT)) else state
        if (old is None or old.state is HostState.LEFT) and not self._fabric.leased:
            kept = HostState.LEFT
        record = codec.HostRecord(
            me, self._config.host_name, self._known.network.address, labels=self._config.host.labels,
            version=__version__, peer=self._fabric.peer_address, api_port=self._api_port,
            draining=bool(old and old.draining),
            returned=old.returned if old else None, state=state if state is HostState.LEFT else kept,
        )  # fmt: skip
        puts = []
        if record != old:
            puts.append(Put(keys.host(me), codec.encode(record)))
        if profile is None or differs(self._known, codec.decode(Profile, profile.value, key=profile.key)):
            puts.append(Put(keys.profile(me), codec.encode(self._known)))
        if puts:
            compare = Unchanged(keys.host(me), item.mod_revision if item else 0)
            await self._mirror.until(await self._store.txn([compare], puts))

    async def _keep_profile(self) -> None:
        while True:
            await self._clock.sleep(PROFILE_EVERY_S)
            await self._refresh()

    async def _refresh(self) -> None:
        """Look anew what this host has; what matters to a plan is published."""
        try:
            self._known = await self._profile()
            await self._write_record(HostState.ALIVE)
        except (Unavailable, StorageFull, ConfigError, StoreConflict) as err:
            log.warning("profile not refreshed", extra={"reason": err.message})

    async def _follow_assignments(self) -> None:
        """Perform what is assigned; what only one host may do ends here when this one has been cut off for a while."""
        cut_off_at: float | None = None
        while True:
            changed, seen = self._mirror.next(), self._fabric.next()
            if self._leaving:  # others take over while the engines here still answer
                await either(changed, seen)
                continue
            cut_off_at = None if self._fabric.leased else (cut_off_at or self._clock.monotonic())
            mine = self._mine(self._mirror.list(keys.ASSIGNMENTS))
            if cut_off_at is not None and self._clock.monotonic() - cut_off_at >= CUT_OFF_S:
                mine = [one for one in mine if self._may_run(one)]
            await self._runner.apply(mine)
            await either(changed, seen)

    def _may_run(self, one: Assignment) -> bool:
        """While this host is cut off. An engine that looks after that itself needs no new start when it is over."""
        return self._directory.term(one.role) is not None or BY_NAME[one.role].elects(one.engine)

    def _mine(self, items: Sequence[Item]) -> list[Assignment]:
        every = [codec.decode(Assignment, item.value, key=item.key) for item in items]
        mine = [one for one in every if one.host == self._identity.id]
        self._assignments.hold(mine)
        return mine

    def _role_changed(self, status: RoleStatus) -> None:
        self._reporter.tell()
        if status.state is RoleState.READY and status.role in ENGINES_THAT_HELP_INGEST:
            self._parts.ingestor.wake()

    async def _fetch_models(self) -> None:
        """Fetch what this host would run if it had it; the plan upgrades itself once the profile lists it."""
        while self._settings.current().catalog.download:
            snapshot = read_snapshot(self._mirror.list("/"), self._mirror.revision, self._inputs())
            wanted = [one for one in wanted_downloads(snapshot, self._identity.id) if one.source.startswith("gguf:")]
            if await self._fetcher.fetch(wanted):
                await self._refresh()
            else:
                await self._clock.sleep(DOWNLOAD_RETRY_S)

    # --- the APIs --------------------------------------------------------------------------------

    def _service(self) -> Service:
        observer = Observer(
            mirror=self._mirror, inputs=self._inputs, runner=self._runner, library=self._parts.library,
            config=self._settings.current, cluster_id=lambda: self._fabric.cluster_id, directory=self._directory,
            members=self._fabric.members, notes=self._notes,
        )  # fmt: skip
        members = Members(
            store=self._store, mirror=self._mirror, observer=observer, me=self._identity.id, invite=self._fabric.invite,
            revoke=self._fabric.revoke,
        )  # fmt: skip
        backend = Backend(
            assistant=self._parts.assistant, ingestor=self._parts.ingestor, history=self._parts.history,
            library=self._parts.library, chat=self._parts.chat, embedder=self._parts.embedder,
            reranker=self._parts.reranker, cluster=observer, members=members, settings=self._settings,
            keys=Keys(StoredKeys(self._store, self._mirror), self._clock), logs=EngineLogs(self._data.logs),
            spool=self._data.root / "spool", outbox=self._outbox,
        )  # fmt: skip
        return Service(backend, lambda: self._settings.current().limits, self._clock)


async def either(one: asyncio.Event, other: asyncio.Event) -> None:
    """Wait until one of them is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def _first(group: BaseExceptionGroup[MorganError]) -> MorganError:
    """The first error in groups within groups."""
    one = group.exceptions[0]
    return _first(one) if isinstance(one, BaseExceptionGroup) else one


def differs(found: Profile, published: Profile) -> bool:
    """Whether a plan could come out otherwise; a little more or less free space does not count."""
    change = abs(found.disk.free_mb - published.disk.free_mb)
    return replace(found, disk=published.disk) != published or change > DISK_CHANGE * max(published.disk.free_mb, 1)
