"""A host's own part in etcd: it runs etcd while the cluster wants it to, and never with data of a former membership."""

from __future__ import annotations

import asyncio
import logging
from enum import StrEnum

from morgand.base.aio import ended
from morgand.base.clock import Clock
from morgand.base.errors import MorganError, Unavailable
from morgand.cluster import codec, keys
from morgand.cluster.etcd import EtcdClient
from morgand.cluster.etcd_process import EtcdProcess, Report
from morgand.cluster.etcd_wire import EtcdMember
from morgand.cluster.store import ClusterStore
from morgand.cluster.voters import VoterRecord, VoterState
from morgand.state.roles import RoleState

log = logging.getLogger("morgand.seat")

PAUSE_S = 1.0


class EtcdAction(StrEnum):
    KEEP = "keep"  # whatever runs or does not
    JOIN = "join"  # begin as the member the record names
    LEAVE = "leave"
    RESIGN = "resign"  # ask etcd to do without this member: what it voted for is not known here any more


def act(record: VoterRecord | None, prepared: bool, member: str, listed: bool) -> EtcdAction:  # noqa: FBT001 - a table's columns
    """What to do about this host's etcd. ``listed``: etcd's other members know a member of this host.

    Whoever votes has had etcd's data. A voter without them must not begin again as the same member: it could vote
    twice in one term, and lacks what it had acknowledged. It learns anew, as another one.
    """
    if record is None:
        return EtcdAction.LEAVE if prepared and not listed else EtcdAction.KEEP
    if record.state is VoterState.WANTED:
        return EtcdAction.KEEP
    if not prepared or (member and member != record.member):
        return EtcdAction.RESIGN if record.state is VoterState.VOTER and record.member else EtcdAction.JOIN
    return EtcdAction.KEEP


class LocalEtcd:
    """``run`` never ends by itself. ``report`` hears the state of etcd on this host."""

    def __init__(
        self, store: ClusterStore, client: EtcdClient, process: EtcdProcess, clock: Clock, report: Report
    ) -> None:
        self._store, self._client, self._process = store, client, process
        self._clock, self._report = clock, report
        self._running: asyncio.Task[None] | None = None

    async def run(self) -> None:
        try:
            while True:
                if self._process.prepared:
                    self._start()
                try:
                    await self._follow()
                except MorganError as err:
                    log.debug("own seat not followed", extra={"reason": err.message})
                await self._clock.sleep(PAUSE_S)
        finally:
            await self._stop()

    async def _follow(self) -> None:
        """Until the store cannot be read."""
        key = keys.voter(self._process.place.host_id)
        items, revision = await self._store.list(key)
        await self._obey(codec.decode(VoterRecord, items[0].value, key=key) if items else None)
        async for changes in self._store.watch(key, revision):
            found = [change.item for change in changes.changes if change.key == key]
            if found or changes.resync:
                item = found[-1] if found else None
                await self._obey(codec.decode(VoterRecord, item.value, key=key) if item else None)

    async def _obey(self, record: VoterRecord | None) -> None:
        if self._store.alone:
            return
        process = self._process
        members = await self._client.members() if record is None and process.prepared else ()
        listed = any(_mine(one, process) for one in members)
        what = act(record, process.prepared, process.member, listed)
        if what is EtcdAction.KEEP:
            return
        await self._stop()
        if what is EtcdAction.LEAVE:
            await asyncio.to_thread(process.wipe)
            log.info("this host votes no longer")
            return
        assert record is not None
        if what is EtcdAction.RESIGN:
            await asyncio.to_thread(process.wipe)
            await self._client.remove(int(record.member, 16))
            log.warning(
                "this host gave up its vote: what etcd had stored here is gone", extra={"member": record.member}
            )
            return
        await self._join(record)
        self._start()

    async def _join(self, record: VoterRecord) -> None:
        """Raises Unavailable while etcd does not list this host yet."""
        members = await self._client.members()
        if not any(f"{one.id:x}" == record.member for one in members):
            raise Unavailable(f"etcd has no member {record.member}.")
        me = self._process.place.host_id
        initial = {
            me if f"{one.id:x}" == record.member else one.name or f"{one.id:x}": url
            for one in members for url in one.peer_urls[:1]
        }  # fmt: skip
        await asyncio.to_thread(self._process.prepare, initial, existing=True, member=record.member)
        log.info("this host becomes a voter", extra={"member": record.member})

    def _start(self) -> None:
        if self._running is None:
            self._running = asyncio.create_task(self._serve(), name="etcd")

    async def _serve(self) -> None:
        while True:
            try:
                await self._process.run(self._report)
            except MorganError as err:  # no room for its configuration
                self._report(RoleState.FAILED, err.message)
            await self._clock.sleep(PAUSE_S)

    async def _stop(self) -> None:
        if self._running is None:
            return
        await ended(self._running)
        self._running = None
        self._report(RoleState.STOPPING, None)


def _mine(member: EtcdMember, process: EtcdProcess) -> bool:
    return member.name == process.place.host_id or f"{member.id:x}" == process.member
