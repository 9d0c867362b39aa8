"""What this host sees of the others: gossip's word, and its own probes of those that gossip doubts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from morgand.clock import Clock
from morgand.cluster.hosts import Sight, verdict
from morgand.state import HostState, Member, MemberStatus

PROBE_EVERY_S = 0.5
ROUTINE_S = 5.0  # between probes of a host that nobody doubts


class Sights:
    """``run`` keeps them fresh. ``alive`` asks a host directly and has a deadline of its own."""

    def __init__(
        self, hosts: Callable[[], Iterable[str]], gossip: Callable[[], Mapping[str, Member]],
        alive: Callable[[str], Awaitable[bool]], clock: Clock,
    ) -> None:  # fmt: skip
        self._hosts, self._gossip, self._alive, self._clock = hosts, gossip, alive, clock
        self._asked: dict[str, float] = {}
        self._failing: dict[str, float] = {}  # host: since when its probes fail

    def of(self, host: str) -> Sight:
        member = self._gossip().get(host)
        since = self._failing.get(host)
        silent_s = 0.0 if since is None else self._clock.monotonic() - since
        return Sight(member.status if member else None, silent_s)

    async def lost(self, host: str) -> None:
        """Return when ``host`` is given up."""
        while verdict(HostState.ALIVE, self.of(host)) is not HostState.FENCED:
            await self._clock.sleep(PROBE_EVERY_S)

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            now = self._clock.monotonic()
            due = [host for host in self._hosts() if now - self._asked.get(host, -ROUTINE_S) >= self._pause(host)]
            for host in self._failing.keys() - set(self._hosts()):
                del self._failing[host]
            await asyncio.gather(*(self._probe(host) for host in due))
            await self._clock.sleep(PROBE_EVERY_S)

    def _pause(self, host: str) -> float:
        member = self._gossip().get(host)
        doubted = member is None or member.status is not MemberStatus.ALIVE or host in self._failing
        return PROBE_EVERY_S if doubted else ROUTINE_S

    async def _probe(self, host: str) -> None:
        started = self._asked[host] = self._clock.monotonic()
        if await self._alive(host):
            self._failing.pop(host, None)
        else:
            self._failing.setdefault(host, started)
