"""Perform the database role here with PostgreSQL: an unmodified Patroni in a process, and the server it starts.

Patroni decides which host is the primary. Where it is this one, Morgan's ``Database`` goes over to the server's socket;
where it is no longer, the database is held at once. One service for whatever part this host has: the part changes
while it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from morgand.base.aio import in_order
from morgand.base.clock import Clock
from morgand.base.disk import DiskLevel
from morgand.base.errors import Conflict, EngineError, MorganError, StorageFull, StoreConflict, Unavailable
from morgand.cluster import keys
from morgand.cluster.etcd import Endpoint
from morgand.cluster.store import ClusterStore
from morgand.fingerprint.disk import probe
from morgand.fingerprint.health import judged
from morgand.process.account import Account, becoming, engine_account
from morgand.process.supervisor import Child, ChildSpec, Report
from morgand.roles.base import RoleService
from morgand.roles.db import bootstrap, files
from morgand.roles.db.copy import LocalCopy
from morgand.roles.db.etcd_proxy import EtcdProxy
from morgand.roles.db.holding import Holding
from morgand.roles.db.patroni import STOP_S, patroni_config, pg_hba, shared_settings, standings
from morgand.roles.db.patroni_keys import Patroni, needed
from morgand.roles.db.rest import Rest
from morgand.roles.db.server import LocalServer, Seen
from morgand.roles.db.site import DbSite, Secrets
from morgand.security import trust
from morgand.state.roles import RoleState
from morgand.storage.database import COMING_S, Database

log = logging.getLogger("morgand.roles.db.postgres")

LOOK_EVERY_S, LOOK_SOON_S = 0.2, 0.05  # the second while everybody waits for this server
UPKEEP_EVERY_S = 4.0
RETRY_S = 5.0
UNFOLLOWED_S = 10.0  # a standby may be without a primary for so long: one is being found
STUCK_S = 25.0  # longer than Patroni's ttl: it has not followed one that is there, and not one that just died
STIR_S = 3.0  # within which Patroni has commits wait for others than who was given up
REFUSED_S = 6.0  # a standby that does not follow one that leads for so long asks it for what it no longer has
BECOMING_S = COMING_S  # so long who comes waits here
BECOMING = (RoleState.STARTING, "This copy of the database becomes the primary.")
FILLING = (RoleState.STARTING, "The database moves here.")
GRACE_S = 4 * STOP_S  # for Patroni to hand over and stop the server


def service(
    site: Callable[[], DbSite], secrets: Callable[[], Awaitable[Secrets]], voters: Callable[[], Sequence[Endpoint]],
    epoch: Callable[[], int | None], database: Database, *, copy: LocalCopy,
    fenced: Callable[[], Mapping[str, str]], quiet: Callable[[], frozenset[str]], seen: Callable[[], asyncio.Event],
    leads: Callable[[], bool], changed: Callable[[], asyncio.Event], agreed_post: Callable[[], int],
    store: ClusterStore, log_dir: Path, clock: Clock,
) -> RoleService:  # fmt: skip
    """``secrets`` waits until they are known. ``epoch``: that of this host's assignment as the primary, None while it
    has none; the database is admitted in that epoch. ``copy`` is offered for as long as the server answers, whatever it
    is. ``site`` may change: then the server is started anew. ``fenced``: hosts that were given up, with the IP address
    that is theirs alone, or none; ``quiet``: those that may be gone; ``seen``: set when that may have changed since the
    call; ``leads``: whether Patroni's leader is this host; ``changed``: as ``seen``, of everything else here.
    ``agreed_post``: as in ``Holding``."""
    return PostgresService(
        site, secrets, EtcdProxy(voters, clock), Holding(database, epoch, agreed_post, clock), copy=copy, fenced=fenced,
        quiet=quiet, seen=seen, leads=leads, changed=changed, store=store, log_dir=log_dir, clock=clock,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Setup:
    """What one life of Patroni is made of."""

    site: DbSite
    secrets: Secrets
    account: Account | None
    etcd_port: int
    tls: ssl.SSLContext

    @property
    def sockets(self) -> Path:
        return files.socket_folder(self.site.folder)

    @property
    def rest(self) -> Rest:
        return Rest(self.site.rest_url, self.site.host, self.tls)

    def config(self, *, revocations: bool) -> dict[str, object]:
        return patroni_config(
            self.site, self.secrets, etcd_port=self.etcd_port, sockets=self.sockets, revocations=revocations
        )


class PostgresService:
    """Implements ``RoleService``."""

    def __init__(
        self, site: Callable[[], DbSite], secrets: Callable[[], Awaitable[Secrets]], proxy: EtcdProxy,
        holding: Holding, *, copy: LocalCopy, fenced: Callable[[], Mapping[str, str]],
        quiet: Callable[[], frozenset[str]], seen: Callable[[], asyncio.Event], leads: Callable[[], bool],
        changed: Callable[[], asyncio.Event], store: ClusterStore, log_dir: Path, clock: Clock,
    ) -> None:  # fmt: skip
        self._site, self._secrets, self._proxy, self._holding, self._copy = site, secrets, proxy, holding, copy
        self._store, self._log_dir, self._clock = store, log_dir, clock
        self._fenced, self._quiet, self._seen, self._leads, self._changed = fenced, quiet, seen, leads, changed
        self._parted: frozenset[str] = frozenset()  # given up, and no longer waited for by commits
        self._refused: frozenset[str] = frozenset()  # IP addresses that get no copy from the server here
        self._said: tuple[RoleState, str | None] | None = None  # of the server here
        self._told: tuple[RoleState, str | None] | None = None  # of the role
        self._trouble: tuple[RoleState, str] | None = None  # why Patroni does not run
        self._parted_at = -STIR_S  # when what sends to a lost standby was ended
        self._waking: asyncio.Task[None] | None = None
        self._due_since: float | None = None
        self._followed = clock.monotonic()  # when it was last anything but a standby that does not get on

    async def run(self, report: Report) -> None:
        """What is missing on this host is reported, with the remedy, and looked for again."""
        secrets = await self._secrets()
        async with self._proxy.listening() as etcd_port:
            while True:
                try:
                    setup = await self._set_up(secrets, etcd_port)
                except MorganError as err:
                    self._say(report, RoleState.FAILED, str(err))
                    await self._clock.sleep(RETRY_S)
                else:
                    await self._live(setup, report)

    async def _set_up(self, secrets: Secrets, etcd_port: int) -> _Setup:
        site, account = self._site(), engine_account()
        tls = await asyncio.to_thread(trust.client_context, site.credentials)
        return _Setup(site, secrets, account, etcd_port, tls)

    async def _prepare(self, setup: _Setup) -> None:
        """Before every start of Patroni. Data that were never whole, and that nobody counts on, go."""
        doubtful = await asyncio.to_thread(files.in_doubt, setup.site)
        if doubtful and bootstrap.expendable(await self._patroni(), setup.site.host):
            await asyncio.to_thread(files.set_aside, setup.site)
        await asyncio.to_thread(files.prepare, setup.site, setup.account)
        await asyncio.to_thread(files.write_access, setup.site, setup.account, pg_hba())
        self._refused = frozenset()
        await asyncio.to_thread(self._write_config, setup)

    async def _live(self, setup: _Setup, report: Report) -> None:
        """Until the site has changed."""
        child = Child(self._spec(setup), setup.rest.alive, self._clock, lambda: self._prepare(setup))
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(child.run(lambda state, reason: self._of_patroni(report, state, reason))),
                group.create_task(self._watch(setup, report)),
                group.create_task(self._forsake()),
            ]
            await self._upkeep(setup)
            for task in running:
                task.cancel()

    def _spec(self, setup: _Setup) -> ChildSpec:
        guardian = (sys.executable, "-m", "morgand.process.reaper", str(GRACE_S))
        return ChildSpec(
            name="db",
            argv=(
                *becoming(setup.account, setup.site.folder, setup.sockets), *guardian,
                sys.executable, "-m", "patroni", str(setup.site.config),
            ),
            options={},
            log_file=self._log_dir / "db.log",
            env={
                "LANG": "C.UTF-8",
                "HOME": str(setup.site.server),
                "RES_OPTIONS": "timeout:1 attempts:1",  # its web server asks for its own name, perhaps of nobody
            },
            stop_grace_s=GRACE_S + STOP_S,
            apart=True,
        )  # fmt: skip

    # --- the part this host has ------------------------------------------------------------------

    async def _watch(self, setup: _Setup, report: Report) -> None:
        server = LocalServer(setup.site, setup.secrets, setup.sockets)
        self._followed = self._clock.monotonic()
        try:
            while True:
                known = self._known()
                seen = await server.look()
                now = self._clock.monotonic()
                late = self._is_late(now)
                if seen is Seen.GONE:
                    self._copy.withdraw()
                else:
                    self._copy.offer(server.url)
                if seen is Seen.PRIMARY:
                    await self._part(setup, server)
                    await self._lead(setup, server, report)
                    await self._refuse(setup, server)
                else:
                    self._holding.lose()
                    if seen is Seen.STREAMING:
                        with contextlib.suppress(StorageFull):  # at the next look, then
                            await asyncio.to_thread(files.mark_complete, setup.site)
                        self._say(report, *(BECOMING if late else (RoleState.READY, None)))
                    elif seen is Seen.GONE:
                        self._say(report, *(self._trouble or (RoleState.STARTING, None)))
                    elif now - self._followed > UNFOLLOWED_S:
                        self._say(report, RoleState.STARTING, "This copy of the database follows no primary now.")
                if seen is not Seen.BEHIND or setup.site.host in self._fenced():  # it is refused while it is given up
                    self._followed = now
                await self._news(known, LOOK_SOON_S if self._holding.due else LOOK_EVERY_S)
        finally:
            await asyncio.shield(self._leave(server))

    def _known(self) -> tuple[object, ...]:
        """What is acted on at once when it changes."""
        return self._fenced(), self._holding.due

    async def _news(self, known: tuple[object, ...], within_s: float) -> None:
        """Wait until that is not what is ``known``, ``within_s`` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                changed = self._changed()
                while self._known() == known:
                    await changed.wait()
                    changed = self._changed()

    def _is_late(self, now: float) -> bool:
        """Whether it should have been the primary for a while. Until then it is ready: who asks waits here, and has
        not to hear from the store first."""
        self._due_since = (self._due_since or now) if self._holding.due else None
        return self._due_since is not None and now - self._due_since > BECOMING_S

    async def _forsake(self) -> None:
        """Patroni does not wait for those that may be gone."""
        forsaken: frozenset[str] = frozenset()
        while True:
            changed, quiet = self._seen(), self._quiet()
            if quiet - forsaken:
                self._proxy.avoid(quiet - forsaken)
            forsaken = quiet
            await changed.wait()

    async def _lead(self, setup: _Setup, server: LocalServer, report: Report) -> None:
        """The server can be written: it is the primary once Patroni says so too, which is not yet while it is made."""
        try:
            if not self._holding.taken:
                if not self._leads():
                    return
                await asyncio.to_thread(files.mark_complete, setup.site)
                await server.ensure_application()
                await self._holding.take(server.url)
                await self._holding.renew()
                self._say(report, RoleState.READY, None)
                with contextlib.suppress(Unavailable, Conflict):  # settings of a newer Morgan; they can wait
                    await setup.rest.configure(shared_settings())
            await self._holding.renew()
        except Conflict as err:  # a newer program's
            self._holding.lose()
            self._say(report, RoleState.FAILED, str(err))
            await self._pass_on(setup)
        except MorganError as err:
            self._holding.lose()
            self._say(report, RoleState.STARTING, str(err))
        else:
            self._say(report, RoleState.READY, None)

    async def _pass_on(self, setup: _Setup) -> None:
        """Let the synchronous standby be the primary: perhaps its host can use the database."""
        try:
            for standby in (await self._patroni()).synchronous[:1]:
                await setup.rest.switchover(setup.site.host, standby)
        except MorganError as err:
            log.warning("database not passed on", extra={"reason": err.message})
        await self._clock.sleep(RETRY_S)

    async def _part(self, setup: _Setup, server: LocalServer) -> None:
        """Commits shall not wait until the server itself notices that a standby is gone."""
        fenced = frozenset(self._fenced())
        if self._clock.monotonic() - self._parted_at < STIR_S:
            await server.stir()
        if not fenced:
            self._parted = fenced
        elif await server.part_with(sorted(fenced)):
            fresh, self._parted = fenced - self._parted, fenced
            if fresh:
                self._parted_at = self._clock.monotonic()
                self._waking = asyncio.create_task(_wake(setup.rest))  # beside: etcd may be slow just now

    async def _refuse(self, setup: _Setup, server: LocalServer) -> None:
        """Who was given up gets no copy. Not before others are served: every process of the server reads it again."""
        refused = frozenset(filter(None, self._fenced().values()))
        if refused == self._refused or not self._holding.taken:
            return
        with contextlib.suppress(EngineError):  # a disk that is full, which is told elsewhere: at the next look, then
            await asyncio.to_thread(files.write_access, setup.site, setup.account, pg_hba(refused))
            if await server.read_access():
                self._refused = refused

    async def _leave(self, server: LocalServer) -> None:
        if self._waking is not None:
            self._waking.cancel()
        await in_order(self._copy.close, self._holding.close, server.close)

    # --- upkeep ----------------------------------------------------------------------------------

    async def _upkeep(self, setup: _Setup) -> None:
        """Hand certificates on that were renewed, and let the database be begun anew where that was broken off.

        Returns when the site has changed.
        """
        told = True
        claim: int | None = None
        stuck: float | None = None
        while self._site() == setup.site:
            await self._clock.sleep(UPKEEP_EVERY_S)
            claim = await self._release(claim)
            stuck = await self._renew_copy(setup, stuck)
            try:
                if await asyncio.to_thread(files.install_credentials, setup.site, setup.account):
                    await asyncio.to_thread(self._write_config, setup)
                    trust.reload(setup.tls, setup.site.credentials)
                    told = False
                if not told:
                    await setup.rest.reload()
                    told = True
            except MorganError as err:
                log.warning("certificates of the database not renewed", extra={"reason": str(err)})

    async def _release(self, claim: int | None) -> int | None:
        """Give up a claim to make the database that was found abandoned twice; returns the one found now."""
        if self._said is not None and self._said[0] is RoleState.READY:
            return None
        with contextlib.suppress(StoreConflict, Unavailable):
            patroni = await self._patroni()
            found = bootstrap.abandoned(patroni)
            if found is not None and found == claim:
                compares, key = bootstrap.release(patroni, found)
                await self._store.txn(compares, [], [key])
                log.warning("database begun anew", extra={"abandoned": found})
            return found
        return None

    async def _renew_copy(self, setup: _Setup, since: float | None) -> float | None:
        """Fetch a new copy when this one has not followed the primary for long, and nobody counts on what is in it.

        A primary that was a copy itself has neither the log nor the history of the time before it was made. Not onto a
        disk that is full or fails: the old copy would be gone, and no new one there.

        Returns since when it has not.
        """
        now = self._clock.monotonic()
        behind_s = now - self._followed
        if self._said is not None and self._said[0] is RoleState.READY and behind_s < REFUSED_S:
            return None
        try:
            patroni, status = await self._patroni(), await setup.rest.status()
            counted_on = patroni.leader is None or setup.site.host in needed(patroni)
            if counted_on or status.making or await asyncio.to_thread(_sick, setup.site):
                return None
            since = now if since is None else since
            refused = behind_s >= REFUSED_S and await _leads(patroni, setup)
            if now - since < STUCK_S and not refused:
                return since
            log.warning("copy of the database fetched anew", extra={"stuck_s": round(max(behind_s, now - since))})
            await setup.rest.reinitialize()
        except MorganError as err:
            log.debug("copy of the database not judged", extra={"reason": str(err)})
            return since
        return None

    async def _patroni(self) -> Patroni:
        """Raises Unavailable."""
        items, revision = await self._store.list(keys.PATRONI)
        return Patroni({item.key: item for item in items}, revision)

    def _write_config(self, setup: _Setup) -> None:
        config = setup.config(revocations=files.has_revocations(setup.site))
        files.write_config(setup.site, setup.account, config)

    def _of_patroni(self, report: Report, state: RoleState, reason: str | None) -> None:
        self._trouble = (state, reason) if reason else None
        if reason:
            self._say(report, state, reason)

    def _say(self, report: Report, state: RoleState, reason: str | None) -> None:
        """While the database is still in a file nobody is ready who could not serve, however well its server is."""
        self._said = (state, reason)
        told = FILLING if state is RoleState.READY and not self._copy.whole else self._said
        if told != self._told:
            self._told = told
            report(*told)


async def _wake(rest: Rest) -> None:
    """Have Patroni look at once; it does by itself within a second."""
    with contextlib.suppress(Unavailable, Conflict):
        await rest.configure(shared_settings())


async def _leads(patroni: Patroni, setup: _Setup) -> bool:
    """Whether the primary says of itself at this moment that it is. Raises Unavailable."""
    primary = next((one for one in standings(patroni) if one.primary and one.rest_url), None)
    return primary is not None and await Rest(primary.rest_url, primary.host, setup.tls).leads()


def _sick(site: DbSite) -> bool:
    """Whether the disk is no place for a new copy now. Blocking."""
    return judged(DiskLevel.WELL, [probe(site.folder)]).sick
