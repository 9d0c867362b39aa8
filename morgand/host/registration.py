"""What this host says it is: its record and its profile in the cluster's store, kept true until it leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from morgand import __version__
from morgand.base.aio import either, persist
from morgand.base.clock import Clock
from morgand.base.disk import Disk
from morgand.base.errors import ConfigError, Fenced, MorganError, StorageFull, StoreConflict, Unavailable
from morgand.cluster import codec, keys
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import ClusterStore, Put, Unchanged
from morgand.config import Config
from morgand.host.connection import Connection
from morgand.host.profile import look
from morgand.state.hosts import HostState, Profile
from morgand.state.roles import Model
from morgand.storage import migrate

log = logging.getLogger("morgand.registration")

PROFILE_EVERY_S = 60.0
RECORD_RETRY_S = 0.5
DISK_CHANGE = 0.05  # of the free space: less is not worth a write and a plan


class Registration:
    """``look`` once, before anything else; ``keep_record`` and ``keep_profile`` are tasks. ``leave`` says goodbye."""

    def __init__(
        self, me: str, config: Config, root: Path, *, models: Sequence[Model], store: ClusterStore, mirror: Mirror,
        connection: Connection, disk: Callable[[], Disk], clock: Clock,
    ) -> None:  # fmt: skip
        """``root``: the data directory; ``disk``: the one it is on, as it was found last."""
        self._me, self._config, self._root = me, config, root
        self._models = models
        self._store, self._mirror, self._connection, self._clock = store, mirror, connection, clock
        self._disk = disk
        self._leaving = False
        self._detected: Profile | None = None  # the last time, before what cannot be used here was left out
        self._profile: Profile | None = None  # as it was seen last
        self.api_port = 0

    def profile(self) -> Profile:
        """What this host has, as it was seen last."""
        assert self._profile is not None, "look first"
        return self._profile

    @property
    def leaving(self) -> bool:
        """Whether this host has said goodbye."""
        return self._leaving

    async def look(self) -> None:
        """See what this host has. Raises ConfigError for a bad override."""
        await asyncio.to_thread(migrate.known)  # as it is at the start, before an update changes the files
        found = await asyncio.to_thread(
            look, self._config, self._root, self._models, disk=self._disk(), before=self._detected
        )
        self._detected, self._profile = found.detected, found.profile

    async def leave(self) -> None:
        """Say that this host goes: others take over what they can. Raises Unavailable, StorageFull.

        What others write of it in the same moment is waited for, for as long as the caller has time.
        """
        self._leaving = True
        await self._persist(HostState.LEFT, StoreConflict)

    def stay(self) -> None:
        """It does not go after all; ``refresh`` tells."""
        self._leaving = False

    async def keep_record(self) -> None:
        """What this host says it is stands in the store, whatever happens to it there.

        It is away until the others count on it: whoever has just started is not missed. Raises Fenced.
        """
        while True:
            changed, seen = self._mirror.next(), self._connection.next()
            await self._persist(HostState.ALIVE, Unavailable, StorageFull, StoreConflict)
            await either(changed, seen)

    async def keep_profile(self) -> None:
        """Look now and then."""
        while True:
            await self._clock.sleep(PROFILE_EVERY_S)
            await self.refresh()

    async def refresh(self) -> None:
        """Look anew what this host has; what matters to a plan is published. Raises Fenced."""
        try:
            await self.look()
            await self._write(HostState.ALIVE)
        except (Unavailable, StorageFull, ConfigError, StoreConflict) as err:
            log.warning("profile not refreshed", extra={"reason": err.message})

    async def _persist(self, state: HostState, *errors: type[MorganError]) -> None:
        await persist(
            lambda: self._write(state), log, "record not written", *errors, clock=self._clock, pause_s=RECORD_RETRY_S
        )

    async def _write(self, state: HostState) -> None:
        """Write the record and the profile if they differ. What others decide about a host is kept.

        Raises Fenced when this host was removed from its cluster.
        """
        if self._leaving and state is HostState.ALIVE:
            return
        me = self._me
        if not self._connection.alone and self._mirror.revision and self._mirror.get(keys.member(me)) is None:
            raise Fenced(
                "This host was removed from its cluster.",
                remedy="Invite it again and run `morgand join`, or start anew.",
            )
        view = self._mirror.view
        item, old, profile = view.items.get(keys.host(me)), view.hosts.get(me), view.profiles.get(me)
        kept = old.state if old and (old.state in (HostState.FENCED, HostState.SUSPECT)) else state
        if (old is None or old.state is HostState.LEFT) and not self._connection.leased:
            kept = HostState.LEFT
        record = codec.HostRecord(
            me, self._config.host_name, self.profile().network.address, labels=self._config.host.labels,
            version=__version__, peer=self._connection.peer_address, api_port=self.api_port,
            draining=bool(old and old.draining),
            joined=old.joined if old else self._clock.now(), returned=old.returned if old else None,
            state=state if state is HostState.LEFT else kept,
            schema=migrate.known(),
        )  # fmt: skip
        puts = []
        if record != old:
            puts.append(Put(keys.host(me), codec.encode(record)))
        if profile is None or differs(self.profile(), profile):
            puts.append(Put(keys.profile(me), codec.encode(self.profile())))
        if puts:
            compare = Unchanged(keys.host(me), item.mod_revision if item else 0)
            await self._mirror.until(await self._store.txn([compare], puts))


def differs(found: Profile, published: Profile) -> bool:
    """Whether a plan could come out otherwise; a little more or less free space does not count."""
    change = abs(found.disk.free_mb - published.disk.free_mb)
    if found.disk.level is not published.disk.level:
        return True
    return replace(found, disk=published.disk) != published or change > DISK_CHANGE * max(published.disk.free_mb, 1)
