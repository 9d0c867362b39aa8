"""The leader's loop as a task of the daemon that can be ended, and begun anew when the host stays after all."""

from __future__ import annotations

import asyncio

from morgand.cluster import election
from morgand.cluster.store import ClusterStore
from morgand.leader.leadership import Leader


class LeaderTask:
    """``begin`` first; ``resign`` when this host leaves."""

    def __init__(self, leader: Leader, store: ClusterStore) -> None:
        self._leader, self._store = leader, store
        self._task: asyncio.Task[None] | None = None

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Campaign, and lead, from now on."""
        self._task = group.create_task(self._leader.run(), name="leader")

    async def begin_anew(self, group: asyncio.TaskGroup) -> None:
        await self.end()
        self.begin(group)

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def resign(self) -> None:
        """Lead no more; whoever takes over need not wait until this host is missed."""
        held = self._leader.held
        await self.end()
        if held is not None:
            await election.resign(self._store, held)
