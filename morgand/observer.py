"""The state of the cluster as the API shows it: read from the store, the runner and the machine when asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from morgand import __version__, overview
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
from morgand.cluster import codec, election, keys
from morgand.cluster.election import Leadership
from morgand.cluster.mirror import Mirror
from morgand.cluster.voters import VoterRecord, VoterState
from morgand.config import ROLE_NAMES, Config, nearest
from morgand.directory import ClusterDirectory
from morgand.errors import MorganError, NotFound
from morgand.planner import Inputs, preview, read_snapshot
from morgand.ports import Library
from morgand.primary import patroni_in
from morgand.runner import Runner
from morgand.scheduler.explain import explain
from morgand.state import Host, Member, RoleState, Snapshot, Usage

ANSWERING = ("core", "db")  # without these nothing can be answered; without the others less well
LOG_TAIL_BYTES = 1024 * 1024
NO_USAGE = Usage(0.0, 0, 0)
DOCUMENTS_S = 1.0  # status must not wait for a database that is moving
EXTRA_LOGS = ("extractor",)


class Observer:
    """Implements the API's view of the cluster."""

    def __init__(
        self, *, mirror: Mirror, inputs: Callable[[], Inputs], runner: Runner, library: Library,
        config: Callable[[], Config], cluster_id: Callable[[], str], directory: ClusterDirectory,
        members: Callable[[], Mapping[str, Member]], notes: Callable[[], list[str]],
    ) -> None:  # fmt: skip
        self._mirror, self._inputs, self._runner, self._library = mirror, inputs, runner, library
        self._config, self._cluster_id, self._directory, self._notes = config, cluster_id, directory, notes
        self._members = members

    async def status(self) -> StatusReply:
        # of one moment: what follows takes time
        snapshot, held, epoch = self._snapshot(), self._leadership(), self._epoch()
        if not self._mirror.current:
            hosts = overview.as_gossip_has_it(snapshot.hosts, self._members(), self._directory.me)
            snapshot = replace(snapshot, hosts=hosts)
        voters = self._voters(snapshot)
        roles = self._role_views(snapshot)
        try:
            async with asyncio.timeout(DOCUMENTS_S):
                documents = await self._library.states()
        except (MorganError, TimeoutError):
            documents = {}
        warnings = overview.warnings(snapshot.hosts, voters, roles, documents.get("failed", 0)) + self._notes()
        if not self._mirror.current:
            warnings.insert(
                0,
                "There is no quorum: nothing can be decided. This is what was last known, and whom gossip sees. Switch "
                "the voters on; where most of them are lost for good, `morgand recover` goes on without them.",
            )
        return StatusReply(
            version=__version__,
            cluster=overview.cluster_view(
                self._cluster_id(),
                self._config().cluster.name,
                held.host if held else None,
                epoch,
                voters,
            ),
            hosts=self._hosts(snapshot),
            roles=roles,
            database=overview.database_view(snapshot.assignments, patroni_in(self._mirror)),
            documents=documents,
            warnings=warnings,
        )

    async def hosts(self) -> HostsReply:
        return HostsReply(self._hosts(self._snapshot()))

    async def roles(self) -> RolesReply:
        return RolesReply(self._role_views(self._snapshot()))

    async def explain(self, role: str | None) -> ExplainReply:
        """Raises NotFound for an unknown role, naming the nearest."""
        if role is not None and role not in ROLE_NAMES:
            raise NotFound(f"There is no role '{role}'{nearest(role, ROLE_NAMES)}")
        return overview.explain_view(explain(self._snapshot(), role))

    async def plan(self, request: PlanRequest) -> PlanReply:
        return overview.plan_view(preview(self._snapshot(), request.without, request.with_profiles))

    def health(self) -> HealthReply:
        """Whether questions can be answered through this host, and how its own roles stand."""
        states = {one.role: one.state for one in self._runner.statuses()}
        roles = {role: state.value for role, state in states.items()}
        if not all(any(one.ready for one in self._directory.holders(role)) for role in ANSWERING):
            return HealthReply(status="starting", roles=roles)
        every = all(state is RoleState.READY for state in states.values())
        return HealthReply(status="ok" if every else "degraded", roles=roles)

    def _snapshot(self) -> Snapshot:
        return read_snapshot(self._mirror.list("/"), self._mirror.revision, self._inputs())

    def _leadership(self) -> Leadership | None:
        item = self._mirror.get(keys.ELECTION)
        return election.leadership(item) if item else None

    def _epoch(self) -> int:
        return election.epoch_in(self._mirror.get(keys.EPOCH), self._mirror.get(keys.ELECTION))

    def _said(self) -> dict[str, codec.HostStatus]:
        """What every host last said of itself."""
        return {
            item.key.removeprefix(keys.STATUS): codec.decode(codec.HostStatus, item.value, key=item.key)
            for item in self._mirror.list(keys.STATUS)
        }

    def _role_views(self, snapshot: Snapshot) -> list[RoleView]:
        said = [one for host, status in self._said().items() if host != self._directory.me for one in status.roles]
        return overview.role_views(snapshot.assignments, [*said, *self._runner.statuses()], snapshot.hosts)

    def _voters(self, snapshot: Snapshot) -> tuple[Host, ...]:
        """Hosts that vote, learners not yet; a lone host is its own."""
        items = self._mirror.list(keys.VOTERS)
        records = [codec.decode(VoterRecord, item.value, key=item.key) for item in items]
        voters = {one.host for one in records if one.state is VoterState.VOTER} or {self._directory.me}
        return tuple(host for host in snapshot.hosts if host.id in voters)

    def _hosts(self, snapshot: Snapshot) -> list[HostView]:
        said = self._said()
        records = self._directory.hosts()
        views = []
        for host in snapshot.hosts:
            usage = said[host.id].usage if host.id in said else NO_USAGE
            views.append(overview.host_view(host, snapshot.assignments, usage, records[host.id].api_port))
        return views


class EngineLogs:
    """The last lines of engines' logs, their rotated files included only as far as the newest goes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def tail(self, role: str, lines: int) -> list[str]:
        """Raises NotFound for a role nobody knows; a role that has not printed anything has no lines."""
        known = (*ROLE_NAMES, *EXTRA_LOGS)
        if role not in known:
            raise NotFound(f"There is no log of '{role}'{nearest(role, known)}")
        return await asyncio.to_thread(self._read, role, lines)

    def _read(self, role: str, lines: int) -> list[str]:
        file = self._directory / f"{role if role != 'core' else 'extractor'}.log"
        try:
            with file.open("rb") as opened:
                opened.seek(max(0, file.stat().st_size - LOG_TAIL_BYTES))
                text = opened.read().decode(errors="replace")
        except FileNotFoundError:
            return []
        return list(deque(text.splitlines(), maxlen=lines))
