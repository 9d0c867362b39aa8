"""Whether the others still want this host: asked of those that it does not count as well.

A host that was given up while it was off would otherwise never hear of it: the others may have gone on without it, in a
store that it is not let into any more. What convinces it is a list of revoked certificates that the cluster's own
authority has signed, whoever hands it over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from morgand.base.clock import Clock
from morgand.base.errors import Fenced, MorganError
from morgand.membership.join_client import JoinClient, parse_target
from morgand.security import ca, trust

EVERY_S = 5.0
ANSWER_S = 3.0


class RevocationCheck:
    """``peers``: APIs of hosts (``ip:port``) that are not known to be well; ``folder`` holds the credentials."""

    def __init__(self, folder: Path, peers: Callable[[], Sequence[str]], clock: Clock) -> None:
        self._folder, self._peers, self._clock = folder, peers, clock

    async def run(self) -> None:
        """Until cancelled. Raises Fenced when this host was given up."""
        while True:
            where = self._peers()
            if where:
                await self._ask(where)
            await self._clock.sleep(EVERY_S)

    async def _ask(self, where: Sequence[str]) -> None:
        authority = await asyncio.to_thread(trust.read, self._folder / trust.CA)
        own = ca.facts(await asyncio.to_thread(trust.read, self._folder / trust.CERT))
        async with JoinClient(self._clock) as meeting:
            told = await asyncio.gather(*(self._revoked(meeting, peer, authority, own.serial) for peer in where))
        if any(told):
            peer = where[told.index(True)]
            raise Fenced(
                f"This host was removed from its cluster, {peer} says.",
                remedy="To have it again: `morganctl cluster invite` there, and `morgand join` here.",
            )

    async def _revoked(self, meeting: JoinClient, peer: str, authority: bytes, serial: str) -> bool:
        """False as well when it does not answer."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return ca.revokes(await meeting.revocations(parse_target(peer, 0), authority), authority, serial)
        except (MorganError, TimeoutError):
            return False
