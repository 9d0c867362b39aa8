"""Handing over: this host says that it leaves, and waits until others have what can be elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from morgand.base.errors import MorganError
from morgand.cluster.mirror import Mirror
from morgand.peers.directory import ClusterDirectory
from morgand.roles.catalog import BY_NAME
from morgand.roles.db.patroni_keys import patroni_in
from morgand.roles.db.spec import SPEC as DB
from morgand.state.hosts import HostState
from morgand.state.roles import RoleStatus

log = logging.getLogger("morgand.handover")


class Drain:
    """``leave`` says that this host goes, ``resign`` gives the leadership up; both may raise MorganError."""

    def __init__(
        self, me: str, *, mirror: Mirror, directory: ClusterDirectory, performed: Callable[[], Sequence[RoleStatus]],
        leave: Callable[[], Awaitable[None]], resign: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._me, self._mirror, self._directory = me, mirror, directory
        self._performed, self._leave, self._resign = performed, leave, resign

    async def run(self, within_s: float) -> None:
        """Returns when all is handed over or the time is over; at once on a lone host."""
        if not self._directory.others() or not self._mirror.current:
            return
        mine = {one.role for one in self._performed()}
        try:
            async with asyncio.timeout(within_s):
                left = await self._done(self._leave)
                await self._done(self._resign)
                while left and self._anybody_else() and any(self._moves(role) for role in mine):
                    await self._mirror.next().wait()
        except TimeoutError:
            log.warning("not everything was handed over", extra={"reason": "it took too long"})

    async def _done(self, step: Callable[[], Awaitable[None]]) -> bool:
        """Whether a step could be done; one that could not keeps none of the others from it."""
        try:
            await step()
        except MorganError as err:
            log.warning("not everything was handed over", extra={"reason": str(err)})
            return False
        return True

    def _anybody_else(self) -> bool:
        """Whether another host is there that could take something over."""
        return any(
            record.state in (HostState.ALIVE, HostState.SUSPECT)
            for host, record in self._directory.hosts().items()
            if host != self._me
        )

    def _moves(self, role: str) -> bool:
        """Whether a role is still on its way from here to another host."""
        if role == DB.name and patroni_in(self._mirror).leader == self._me:
            return True  # whatever is assigned by now
        held = self._directory.held(role)
        if held is not None:
            return not BY_NAME[role].binds(held.engine)
        holders = [one for one in self._directory.holders(role) if one.host != self._me]
        return bool(holders) and not any(one.ready for one in holders)
