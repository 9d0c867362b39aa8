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
from pathlib import Path

from morgand import __version__
from morgand import log as logs
from morgand.api.backend import Backend
from morgand.api.schema import InvitationReply
from morgand.api.service import Service
from morgand.assembly import PERFORMED, Assignments, Parts, build, context_for, services
from morgand.clock import Clock, SystemClock
from morgand.cluster import codec, keys
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import ClusterStore, Item, Put, Unchanged
from morgand.config import Config
from morgand.datadir import DataDir
from morgand.errors import ConfigError, StoreConflict, Unavailable
from morgand.fingerprint.collect import collect
from morgand.fingerprint.host_id import HostIdentity, load_or_create
from morgand.fingerprint.override import read_override
from morgand.keystore import StoredKeys
from morgand.leader import Leader
from morgand.members import Members
from morgand.observer import EngineLogs, Observer
from morgand.planner import Inputs, read_snapshot, wanted_downloads
from morgand.reporter import Reporter
from morgand.roles.catalog import SPECS
from morgand.roles.downloads import Fetcher
from morgand.roles.models import available, load_models
from morgand.runner import Runner
from morgand.security.keys import Keys
from morgand.settings import Settings
from morgand.sights import Sights
from morgand.sites import Sites
from morgand.state import Assignment, Duty, HostState, Profile, RoleState, RoleStatus

log = logging.getLogger("morgand.daemon")

PROFILE_EVERY_S = 60.0
DISK_CHANGE = 0.05  # of the free space: less is not worth a write and a plan
DOWNLOAD_RETRY_S = 3600.0
ENGINES_THAT_HELP_INGEST = ("embedder", "vectors")


def run(config: Config) -> None:
    """Run until SIGTERM or SIGINT. Raises MorganError when it cannot start."""
    os.umask(0o077)
    logs.setup(config.log.level, config.log.format, config.host_name)
    with DataDir(config.data_dir) as data:
        asyncio.run(_main(config, data))


async def _main(config: Config, data: DataDir) -> None:
    identity = await asyncio.to_thread(load_or_create, data.root)
    store = await LocalStore.open(data.root / "cluster")
    try:
        daemon = Daemon(config, data, identity, store, SystemClock())
        await daemon.main()
    finally:
        await store.close()


class Daemon:
    """One run of morgand on one host."""

    def __init__(
        self, config: Config, data: DataDir, identity: HostIdentity, store: ClusterStore, clock: Clock
    ) -> None:
        self._config, self._data, self._identity, self._store, self._clock = config, data, identity, store, clock
        self._models = load_models(Path(config.catalog.file) if config.catalog.file else None)
        self._models_dir = Path(config.catalog.models_dir or data.root / "models")
        self._mirror = Mirror(store, clock)
        self._settings = Settings(store, self._mirror, config)
        self._assignments = Assignments(self._models, self._models_dir)
        context = context_for(self._settings.current, data.root, data.run_dir(), clock, self._assignments)
        self._parts: Parts = build(context, self._assignments)
        self._runner = Runner(services(context, self._assignments, self._parts), clock, self._role_changed)
        self._reporter = Reporter(identity.id, store, self._runner.statuses, clock)
        self._sights = Sights(lambda: (), dict, self._alive, clock)
        self._leader = Leader(
            identity.id, store=store, mirror=self._mirror, sights=self._sights, inputs=self._inputs, clock=clock
        )
        self._fetcher = Fetcher(self._models_dir)
        self._stop = asyncio.Event()

    async def main(self) -> None:
        """Everything from the first profile to the last engine's end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        await self._mirror.load()
        sites = Sites()
        try:
            await sites.start(self._service(), self._data.socket, self._config.listen)
            await self._publish(await self._profile(), sites.port)
            await self._until_stopped(sites.port)
        finally:
            log.info("stopping")
            await sites.close()
            await self._runner.stop()
            await self._parts.close()
            self._data.socket.unlink(missing_ok=True)

    async def _until_stopped(self, port: int | None) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._mirror.run(), name="mirror"),
                group.create_task(self._leader.run(), name="leader"),
                group.create_task(self._sights.run(), name="sights"),
                group.create_task(self._reporter.run(), name="reporter"),
                group.create_task(self._follow_assignments(), name="runner"),
                group.create_task(self._keep_profile(port), name="profile"),
                group.create_task(self._fetch_models(port), name="downloads"),
            ]
            log.info("running", extra={"host_id": self._identity.id})
            await self._stop.wait()
            for task in tasks:
                task.cancel()

    # --- the host's part of the cluster ----------------------------------------------------------

    async def _alive(self, _host: str) -> bool:
        return False

    async def _invite(self) -> InvitationReply:
        raise Unavailable("not yet")

    async def _revoke(self, _host: str) -> None:
        raise Unavailable("not yet")

    def _inputs(self) -> Inputs:
        return Inputs(SPECS, self._models, self._settings.current().preferences())

    async def _profile(self) -> Profile:
        host = self._config.host
        override = (
            await asyncio.to_thread(read_override, Path(host.profile_override)) if host.profile_override else None
        )
        models = await asyncio.to_thread(available, self._models, self._models_dir)
        profile = await asyncio.to_thread(
            collect, self._data.root, duty=Duty(host.duty), address=host.address, models=models, override=override
        )
        return replace(profile, engines=tuple(one for one in profile.engines if one.name in PERFORMED))

    async def _publish(self, profile: Profile, port: int | None) -> None:
        """Write what this host is. What others decide about it (fenced, draining) is kept; that it left is over."""
        address = profile.network.address if port is None else f"{profile.network.address}:{port}"
        key = keys.host(self._identity.id)
        item = await self._store.get(key)
        old = codec.decode(codec.HostRecord, item.value, key=key) if item else None
        record = codec.HostRecord(
            self._identity.id, self._config.host_name, address, labels=self._config.host.labels, version=__version__,
            draining=old.draining if old else False,
            state=HostState.FENCED if old and old.state is HostState.FENCED else HostState.ALIVE,
        )  # fmt: skip
        puts = [Put(key, codec.encode(record)), Put(keys.profile(record.id), codec.encode(profile))]
        await self._store.txn([Unchanged(key, item.mod_revision if item else 0)], puts)
        self._published = profile

    async def _keep_profile(self, port: int | None) -> None:
        while True:
            await self._clock.sleep(PROFILE_EVERY_S)
            await self._refresh(port)

    async def _refresh(self, port: int | None) -> None:
        """Publish the profile anew when something in it matters to a plan. A full disk is no reason to stop."""
        try:
            found = await self._profile()
            if differs(found, self._published):
                await self._publish(found, port)
        except (Unavailable, ConfigError, StoreConflict) as err:
            log.warning("profile not refreshed", extra={"reason": err.message})

    async def _follow_assignments(self) -> None:
        while True:
            changed = self._mirror.next()
            await self._runner.apply(self._mine(self._mirror.list(keys.ASSIGNMENTS)))
            await changed.wait()

    def _mine(self, items: Sequence[Item]) -> list[Assignment]:
        every = [codec.decode(Assignment, item.value, key=item.key) for item in items]
        mine = [one for one in every if one.host == self._identity.id]
        self._assignments.hold(mine)
        return mine

    def _role_changed(self, status: RoleStatus) -> None:
        self._reporter.tell()
        if status.state is RoleState.READY and status.role in ENGINES_THAT_HELP_INGEST:
            self._parts.ingestor.wake()

    async def _fetch_models(self, port: int | None) -> None:
        """Fetch what this host would run if it had it; the plan upgrades itself once the profile lists it."""
        while self._settings.current().catalog.download:
            snapshot = read_snapshot(self._mirror.list("/"), self._mirror.revision, self._inputs(), 0)
            wanted = [one for one in wanted_downloads(snapshot, self._identity.id) if one.source.startswith("gguf:")]
            if await self._fetcher.fetch(wanted):
                await self._refresh(port)
            else:
                await self._clock.sleep(DOWNLOAD_RETRY_S)

    # --- the APIs --------------------------------------------------------------------------------

    def _service(self) -> Service:
        observer = Observer(
            mirror=self._mirror, inputs=self._inputs, runner=self._runner, library=self._parts.library,
            config=self._settings.current, cluster_id=lambda: self._identity.cluster_id, me=self._identity.id,
            notes=self._fetcher.notes,
        )  # fmt: skip
        members = Members(
            store=self._store, mirror=self._mirror, observer=observer, me=self._identity.id, invite=self._invite,
            revoke=self._revoke,
        )  # fmt: skip
        backend = Backend(
            assistant=self._parts.assistant, ingestor=self._parts.ingestor, history=self._parts.history,
            library=self._parts.library, chat=self._parts.chat, embedder=self._parts.embedder,
            reranker=self._parts.reranker, cluster=observer, members=members, settings=self._settings,
            keys=Keys(StoredKeys(self._store, self._mirror), self._clock), logs=EngineLogs(self._data.logs),
            spool=self._data.root / "spool",
        )  # fmt: skip
        return Service(backend, lambda: self._settings.current().limits, self._clock)


def differs(found: Profile, published: Profile) -> bool:
    """Whether a plan could come out otherwise; a little more or less free space does not count."""
    change = abs(found.disk.free_mb - published.disk.free_mb)
    return replace(found, disk=published.disk) != published or change > DISK_CHANGE * max(published.disk.free_mb, 1)
