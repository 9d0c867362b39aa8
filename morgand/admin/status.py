"""The state of the cluster as the API shows it: read from the store, the runner and the machine when asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from morgand import __version__
from morgand.admin import quorum_loss, views
from morgand.admin.preview import preview, with_hosts
from morgand.admin.quorum_loss import Reach
from morgand.api.schema import (
    ExplainReply,
    HealthReply,
    HostsReply,
    HostView,
    PlanReply,
    PlanRequest,
    RolesReply,
    RoleView,
    StatusReply,
)
from morgand.base import staleness
from morgand.base.errors import MorganError, NotFound
from morgand.cluster import election, keys
from morgand.cluster.election import Leadership
from morgand.cluster.mirror import Mirror
from morgand.cluster.snapshot import Inputs, read_snapshot
from morgand.config import Config, nearest
from morgand.peers.directory import ClusterDirectory
from morgand.roles.catalog import NAMES, VITAL
from morgand.roles.core.service import EXTRACTOR
from morgand.roles.core.spec import SPEC as CORE
from morgand.roles.db.patroni_keys import patroni_in
from morgand.roles.db.spec import SPEC as DB
from morgand.scheduler.explain import explain
from morgand.state.hosts import Host, HostState, Member, PeerHealth, Profile, Usage
from morgand.state.plans import Snapshot
from morgand.state.ports import Library
from morgand.state.roles import RoleState, RoleStatus

LOG_TAIL_BYTES = 1024 * 1024
NO_USAGE = Usage(0.0, 0, 0)
DOCUMENTS_S = 0.5  # status must not wait for a database that is moving
COPY_S = 2.5  # where nothing can be decided a copy of it tells by then
EXTRA_LOGS = ("extractor",)


class StatusObserver:
    """Implements the API's view of the cluster."""

    def __init__(
        self, *, mirror: Mirror, inputs: Callable[[], Inputs], library: Library,
        statuses: Callable[[], list[RoleStatus]],
        config: Callable[[], Config], cluster_id: Callable[[], str], directory: ClusterDirectory,
        members: Callable[[], Mapping[str, Member]], sight: Callable[[str], PeerHealth | None],
        etcd: Callable[[], Sequence[str]],
        profile: Callable[[], Profile], notes: Callable[[], list[str]],
    ) -> None:  # fmt: skip
        """``members`` is what gossip sees, ``sight`` what the detector sees of a host, ``etcd`` where voters are."""
        self._mirror, self._inputs, self._statuses, self._library = mirror, inputs, statuses, library
        self._config, self._cluster_id, self._directory, self._notes = config, cluster_id, directory, notes
        self._members, self._peer_health, self._etcd, self._profile = members, sight, etcd, profile

    async def status(self) -> StatusReply:
        _, _, stuck = self._seen()
        documents = await self._documents(COPY_S if stuck else DOCUMENTS_S)
        # the rest is of one moment: the present one
        held, epoch = self._leadership(), self._epoch()
        snapshot, silent, stuck = self._seen()
        voters = self._voters(snapshot.hosts)
        roles = self._role_views(snapshot, silent)
        reach = _reach(documents)
        if not snapshot.hosts and stuck:
            warnings = quorum_loss.unconnected(self._etcd())
        else:
            warnings = quorum_loss.told(voters, reach, self._holder(snapshot, silent)) if stuck else []
            warnings += views.warnings(
                snapshot.hosts, voters, roles, documents.get("failed", 0), silent, specs=snapshot.roles
            )
            warnings += [] if stuck else [*views.copy_warnings(snapshot), *views.failure_warnings(snapshot)]
        return StatusReply(
            version=__version__,
            cluster=views.cluster_view(
                self._cluster_id(),
                self._config().cluster.name,
                held.host if held and not stuck else None,
                epoch,
                voters,
            ),
            hosts=self._hosts(snapshot),
            roles=roles,
            database=views.database_view(
                snapshot.assignments, patroni_in(self._mirror), lost=stuck and reach is not Reach.SERVED
            ),
            documents=documents,
            warnings=warnings + self._notes(),
        )

    def _seen(self) -> tuple[Snapshot, frozenset[str], bool]:
        """The world as it is in the store and, while nothing can be decided (the third), as this host sees it: with
        the hosts that do not answer it."""
        snapshot = self._snapshot()
        sights = {host.id: self._peer_health(host.id) for host in snapshot.hosts}
        seen = quorum_loss.as_seen(snapshot.hosts, sights, self._members(), self._directory.me)
        if self._mirror.current and not quorum_loss.undecided(self._voters(seen)):
            return snapshot, frozenset(), False
        silent = frozenset(one.id for one in seen if one.state is HostState.SUSPECT)
        return replace(snapshot, hosts=seen), silent, True

    async def _documents(self, within_s: float) -> dict[str, int]:
        """Documents per state; empty when nobody can tell soon enough."""
        try:
            async with asyncio.timeout(within_s):
                return await self._library.states()
        except (MorganError, TimeoutError):
            return {}

    def _holder(self, snapshot: Snapshot, silent: frozenset[str]) -> str | None:
        """Another host that has the database while this one has not: the one to go on with."""
        db = {one.host for one in snapshot.assignments if one.role == DB.name} - silent
        if not db or self._directory.me in db:
            return None
        return next((host.display_name for host in snapshot.hosts if host.id in db), None)

    async def hosts(self) -> HostsReply:
        snapshot, _, _ = self._seen()
        return HostsReply(self._hosts(snapshot))

    async def roles(self) -> RolesReply:
        snapshot, silent, _ = self._seen()
        return RolesReply(self._role_views(snapshot, silent))

    async def explain(self, role: str | None) -> ExplainReply:
        """Raises NotFound for an unknown role, naming the nearest."""
        if role is not None and role not in NAMES:
            raise NotFound(f"There is no role '{role}'{nearest(role, NAMES)}")
        snapshot = self._snapshot()
        return views.explain_view(explain(snapshot, role), snapshot.hosts)

    async def plan(self, request: PlanRequest) -> PlanReply:
        snapshot = self._snapshot()
        wider = with_hosts(snapshot, request.with_profiles)
        return views.plan_view(preview(wider, request.without), wider.hosts)

    def health(self) -> HealthReply:
        """Whether questions can be answered through this host, and how its own roles stand."""
        states = {one.role: one.state for one in self._statuses()}
        roles = {role: state.value for role, state in states.items()}
        if not all(any(one.ready for one in self._directory.holders(role)) for role in VITAL):
            return HealthReply(status="starting", roles=roles)
        every = all(state is RoleState.READY for state in states.values())
        return HealthReply(status="ok" if every else "degraded", roles=roles)

    def _snapshot(self) -> Snapshot:
        """As it is in the store; of this host, as it is: a full disk may keep it from saying so there."""
        found, me = read_snapshot(self._mirror.view, self._inputs()), self._directory.me
        hosts = (replace(one, profile=self._profile()) if one.id == me else one for one in found.hosts)
        return replace(found, hosts=tuple(hosts))

    def _leadership(self) -> Leadership | None:
        item = self._mirror.get(keys.ELECTION)
        return election.leadership(item) if item else None

    def _epoch(self) -> int:
        return election.epoch_in(self._mirror.get(keys.EPOCH), self._mirror.get(keys.ELECTION))

    def _role_views(self, snapshot: Snapshot, silent: frozenset[str] = frozenset()) -> list[RoleView]:
        others = {host: one for host, one in self._mirror.view.statuses.items() if host != self._directory.me}
        said = [role for one in others.values() for role in one.roles]
        return views.role_views(snapshot.assignments, [*said, *self._statuses()], snapshot.hosts, silent)

    def _voters(self, hosts: tuple[Host, ...]) -> tuple[Host, ...]:
        """Hosts that vote, learners not yet; a lone host is its own."""
        voters = {one.host for one in self._mirror.view.voting} or {self._directory.me}
        return tuple(host for host in hosts if host.id in voters)

    def _hosts(self, snapshot: Snapshot) -> list[HostView]:
        said = self._mirror.view.statuses
        records = self._directory.hosts()
        shown = []
        for host in snapshot.hosts:
            usage = said[host.id].usage if host.id in said else NO_USAGE
            shown.append(views.host_view(host, snapshot.assignments, usage, records[host.id].api_port))
        return shown


def _reach(documents: Mapping[str, int]) -> Reach:
    """What the count of documents shows: it is never empty when it could be read."""
    if not documents:
        return Reach.NOTHING
    return Reach.COPY if staleness.stale() else Reach.SERVED


class EngineLogs:
    """The last lines of engines' logs, their rotated files included only as far as the newest goes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def tail(self, role: str, lines: int) -> list[str]:
        """Raises NotFound for a role nobody knows; a role that has not printed anything has no lines."""
        known = (*NAMES, *EXTRA_LOGS)
        if role not in known:
            raise NotFound(f"There is no log of '{role}'{nearest(role, known)}")
        return await asyncio.to_thread(self._read, role, lines)

    def _read(self, role: str, lines: int) -> list[str]:
        file = self._directory / f"{EXTRACTOR if role == CORE.name else role}.log"
        try:
            with file.open("rb") as opened:
                opened.seek(max(0, file.stat().st_size - LOG_TAIL_BYTES))
                text = opened.read().decode(errors="replace")
        except FileNotFoundError:
            return []
        return list(deque(text.splitlines(), maxlen=lines))
