"""This host's heartbeats as its cluster wants them: whom to watch, with which key, and what a new lease asks for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Mapping

from morgand.base.clock import Clock
from morgand.base.errors import StorageFull, StoreConflict, Unavailable
from morgand.cluster import codec, keys
from morgand.cluster.codec import HostRecord
from morgand.cluster.election import Leadership
from morgand.cluster.member_file import MemberFile
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import ClusterStore, Put, Unchanged
from morgand.detector.client import Heartbeats, Orders
from morgand.state.hosts import HostState

log = logging.getLogger("morgand.heartbeat")

EVERYBODY = 9  # up to so many hosts watch each other; in a larger cluster everybody watches the voters, and they all
RETRY_S = 0.3
KEY_BYTES = 32


class LeaseManager:
    """``run`` until cancelled. ``leased`` is what this host may act by."""

    def __init__(
        self, me: Callable[[], MemberFile], beats: Heartbeats, *, store: ClusterStore, mirror: Mirror, clock: Clock,
    ) -> None:  # fmt: skip
        self._me, self._beats, self._store, self._mirror, self._clock = me, beats, store, mirror, clock
        self._trusted = 0

    @property
    def leased(self) -> bool:
        """Whether this host holds its lease, and has heard what was decided while it had none."""
        return 0 < self._trusted == self._beats.lease

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beats.run(), name="heartbeats")
            group.create_task(self._follow())
            group.create_task(self._trust())

    async def _follow(self) -> None:
        """Tell the detector what it needs, whenever that changes."""
        while True:
            changed = self._mirror.next()
            item = self._mirror.get(keys.BEATS)
            if item is not None:
                me = self._me()
                self._beats.order(
                    Orders(
                        me.host, me.address, me.port, (codec.decode(str, item.value, key=item.key),),
                        self._peers(me.host), tuple(sorted(self._voters())),
                    )
                )  # fmt: skip
            await changed.wait()

    def _peers(self, me: str) -> dict[str, tuple[str, int, bool]]:
        records = self._mirror.view.hosts.values()
        others = {one.id: one for one in records if one.id != me and one.peer}
        voters = self._voters()
        if len(records) > EVERYBODY and me not in voters:
            others = {host: one for host, one in others.items() if host in voters}
        mine = self._wired(me)
        return {
            host: (*_place(one.peer), mine and self._wired(host)) for host, one in sorted(others.items())
        }  # fmt: skip

    def _wired(self, host: str) -> bool:
        profile = self._mirror.view.profiles.get(host)
        return profile is None or profile.network.wired

    def _voters(self) -> set[str]:
        return {one.host for one in self._mirror.view.voting}

    async def _trust(self) -> None:
        """Before a new lease is used, learn through the quorum what was decided meanwhile."""
        while True:
            changed = self._beats.next()
            generation = self._beats.lease
            if generation and generation != self._trusted:
                try:
                    mine = Put(keys.lease(self._me().host), codec.encode(generation))
                    await self._mirror.until(await self._store.txn([], [mine]))
                except (Unavailable, StorageFull, StoreConflict) as err:
                    log.debug("lease not used yet", extra={"reason": err.message})
                    await self._clock.sleep(RETRY_S)
                    continue
                self._trusted = generation
                log.info("lease", extra={"generation": generation})
            await changed.wait()


async def ensure_key(store: ClusterStore, held: Leadership) -> None:
    """A duty of the leader: there is a key for heartbeats. Ends when there is one."""
    while True:
        with contextlib.suppress(Unavailable, StorageFull, StoreConflict):
            if await store.get(keys.BEATS) is not None:
                return
            await store.txn([held.fence(), Unchanged(keys.BEATS, 0)], [Put(keys.BEATS, codec.encode(new_key()))])
            return
        await asyncio.sleep(RETRY_S)


def new_key() -> str:
    return secrets.token_hex(KEY_BYTES)


def fenced_hosts(hosts: Mapping[str, HostRecord]) -> set[str]:
    return {host for host, record in hosts.items() if record.state is HostState.FENCED}


def _place(peer: str) -> tuple[str, int]:
    address, _, port = peer.rpartition(":")
    return address.strip("[]"), int(port)
