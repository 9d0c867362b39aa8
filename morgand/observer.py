"""The state of the cluster as the API shows it: read from the store, the runner and the machine when asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path

import psutil

from morgand import __version__, overview
from morgand.api.schema import (
    ExplainReply,
    HealthReply,
    HostsReply,
    HostView,
    PlanReply,
    PlanRequest,
    RolesReply,
    StatusReply,
)
from morgand.cluster.election import Leadership
from morgand.cluster.store import ClusterStore
from morgand.config import ROLE_NAMES, Config, nearest
from morgand.errors import MorganError, NotFound
from morgand.planner import Inputs, preview, snapshot_of
from morgand.ports import Library
from morgand.runner import Runner
from morgand.scheduler.plan import passed_over, plan
from morgand.state import RoleState, Snapshot, Usage

ANSWERING = ("core", "db")  # without these nothing can be answered; without the others less well
LOG_TAIL_BYTES = 1024 * 1024
VRAM_UNKNOWN = 0
EXTRA_LOGS = ("extractor",)


class Observer:
    """Implements the API's view of the cluster."""

    def __init__(
        self, *, store: ClusterStore, leadership: Callable[[], Leadership], inputs: Callable[[], Inputs],
        runner: Runner, library: Library, config: Callable[[], Config], cluster_id: str,
        notes: Callable[[], list[str]],
    ) -> None:  # fmt: skip
        self._store, self._leadership, self._inputs = store, leadership, inputs
        self._runner, self._library, self._config, self._cluster_id = runner, library, config, cluster_id
        self._notes = notes
        psutil.cpu_percent()  # the first call only sets the mark that the next one measures from

    async def status(self) -> StatusReply:
        snapshot = await self._snapshot()
        roles = overview.role_views(snapshot.assignments, self._runner.statuses())
        try:
            documents = await self._library.states()
        except MorganError:
            documents = {}
        leadership = self._leadership()
        return StatusReply(
            version=__version__,
            cluster=overview.cluster_view(
                self._cluster_id, self._config().cluster.name, leadership.host, leadership.epoch, snapshot.hosts
            ),
            hosts=self._hosts(snapshot),
            roles=roles,
            database=overview.database_view(snapshot.assignments),
            documents=documents,
            warnings=overview.warnings(snapshot.hosts, roles, documents.get("failed", 0)) + self._notes(),
        )

    async def hosts(self) -> HostsReply:
        return HostsReply(self._hosts(await self._snapshot()))

    async def roles(self) -> RolesReply:
        snapshot = await self._snapshot()
        return RolesReply(overview.role_views(snapshot.assignments, self._runner.statuses()))

    async def explain(self, role: str | None) -> ExplainReply:
        """Raises NotFound for an unknown role, naming the nearest."""
        if role is not None and role not in ROLE_NAMES:
            raise NotFound(f"There is no role '{role}'{nearest(role, ROLE_NAMES)}")
        snapshot = await self._snapshot()
        return overview.explain_view(plan(snapshot), passed_over(snapshot), role)

    async def plan(self, request: PlanRequest) -> PlanReply:
        return overview.plan_view(preview(await self._snapshot(), request.without, request.with_profiles))

    def health(self) -> HealthReply:
        states = {one.role: one.state for one in self._runner.statuses()}
        ready = [states.get(role) is RoleState.READY for role in ANSWERING]
        every = all(state is RoleState.READY for state in states.values())
        roles = {role: state.value for role, state in states.items()}
        if not all(ready):
            return HealthReply(status="starting", roles=roles)
        return HealthReply(status="ok" if every else "degraded", roles=roles)

    async def _snapshot(self) -> Snapshot:
        return await snapshot_of(self._store, self._inputs(), self._leadership().epoch)

    def _hosts(self, snapshot: Snapshot) -> list[HostView]:
        usage = Usage(psutil.cpu_percent(), psutil.virtual_memory().used // (1 << 20), VRAM_UNKNOWN)
        return [overview.host_view(host, snapshot.assignments, usage) for host in snapshot.hosts]


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
