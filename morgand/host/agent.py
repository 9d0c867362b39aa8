"""Performs what this host is assigned; what only one host may do ends when it has been cut off for a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from morgand.base.aio import either
from morgand.base.clock import Clock
from morgand.cluster.mirror import Mirror
from morgand.host.assignments import Assignments
from morgand.host.connection import Connection
from morgand.host.runner import Runner
from morgand.peers.directory import ClusterDirectory
from morgand.roles.catalog import BY_NAME
from morgand.state.roles import Assignment

CUT_OFF_S = 2.0  # without the others for so long: another host may hold by now what this one held


class HostAgent:
    """``run`` is a task; the runner does what it says."""

    def __init__(
        self, me: str, runner: Runner, assignments: Assignments, *, mirror: Mirror, directory: ClusterDirectory,
        connection: Connection, leaving: Callable[[], bool], clock: Clock,
    ) -> None:  # fmt: skip
        self._me, self._runner, self._assignments = me, runner, assignments
        self._mirror, self._directory, self._connection = mirror, directory, connection
        self._leaving, self._clock = leaving, clock

    async def run(self) -> None:
        """Until cancelled."""
        cut_off_at: float | None = None
        while True:
            changed, seen = self._mirror.next(), self._connection.next()
            if self._leaving():  # others take over while the engines here still answer
                await either(changed, seen)
                continue
            cut_off_at = None if self._connection.leased else (cut_off_at or self._clock.monotonic())
            mine = self._mine()
            if cut_off_at is not None and self._clock.monotonic() - cut_off_at >= CUT_OFF_S:
                mine = [one for one in mine if self._may_run(one)]
            await self._runner.apply(mine)
            await either(changed, seen)

    def _may_run(self, one: Assignment) -> bool:
        """While this host is cut off. An engine that looks after that itself needs no new start when it is over."""
        return self._directory.term(one.role) is not None or BY_NAME[one.role].elects(one.engine)

    def _mine(self) -> Sequence[Assignment]:
        mine = [one for one in self._mirror.view.assignments if one.host == self._me]
        self._assignments.hold(mine)
        return mine
