"""The leader brings etcd to the voters that ``voters.next_step`` asks for, one step at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from morgand.clock import Clock
from morgand.cluster import codec, keys, voters
from morgand.cluster.election import Leadership
from morgand.cluster.etcd import Endpoint, EtcdClient
from morgand.cluster.etcd_wire import EtcdMember, EtcdStatus
from morgand.cluster.store import ClusterStore, Compare, Item, Put, Unchanged
from morgand.cluster.voters import (
    Add,
    Candidate,
    Forget,
    Note,
    Promote,
    Readdress,
    Remove,
    Seat,
    Step,
    VoterRecord,
    next_step,
)  # fmt: skip
from morgand.errors import Conflict, MorganError, NotFound, StoreConflict, Unavailable

log = logging.getLogger("morgand.voters")

EVERY_S = 1.0
LAG_ENTRIES = 100  # a member this far behind has caught up, for our purposes: etcd itself asks for nine tenths


@dataclass(frozen=True, slots=True)
class _View:
    seats: tuple[Seat, ...]
    records: Mapping[str, VoterRecord]
    items: Mapping[str, Item]


class VoterKeeper:
    """``run`` is a duty of the leader: it ends when cancelled. ``candidates`` are the cluster's hosts."""

    def __init__(
        self, store: ClusterStore, client: EtcdClient, clock: Clock, candidates: Callable[[], Sequence[Candidate]],
        *, steady_s: float = voters.STEADY_S,
    ) -> None:  # fmt: skip
        self._store, self._client, self._clock = store, client, clock
        self._candidates = candidates
        self._steady_s = steady_s
        self._well_since: dict[int, float] = {}
        self._refusal = ""

    async def run(self, held: Leadership) -> None:
        self._well_since.clear()
        while True:
            try:
                if not self._store.alone:
                    await self._turn(held)
                self._refusal = ""
            except (Conflict, NotFound, StoreConflict, Unavailable) as err:
                self._complain(err)
            await self._clock.sleep(EVERY_S)

    async def _turn(self, held: Leadership) -> None:
        view = await self._view()
        step = next_step(self._candidates(), view.seats, view.records, steady_s=self._steady_s)
        if step is not None:
            await self._perform(held, view, step)

    async def _view(self) -> _View:
        items, _ = await self._store.list(keys.VOTERS)
        records = [codec.decode(VoterRecord, item.value, key=item.key) for item in items]
        members = await self._client.members()
        found = await asyncio.gather(*(self._status(member) for member in members))
        most = max((status.applied for status in found if status is not None), default=0)
        seats = tuple(self._seat(member, status, most, records) for member, status in zip(members, found, strict=True))
        self._well_since = {one.id: self._well_since[one.id] for one in members if one.id in self._well_since}
        hosts = dict(zip((record.host for record in records), items, strict=True))
        return _View(seats, {record.host: record for record in records}, hosts)

    def _seat(self, member: EtcdMember, status: EtcdStatus | None, most: int, records: Sequence[VoterRecord]) -> Seat:
        well = status is not None and bool(status.leader) and status.applied + LAG_ENTRIES >= most
        now = self._clock.monotonic()
        if well:
            since = self._well_since.setdefault(member.id, now)
        else:
            since = now
            self._well_since.pop(member.id, None)
        url = member.peer_urls[0] if member.peer_urls else ""
        host = member.name or next((one.host for one in records if one.peer_url == url), None)
        return Seat(f"{member.id:x}", host, url, member.learner, well, now - since)

    async def _status(self, member: EtcdMember) -> EtcdStatus | None:
        if not member.name or not member.client_urls:
            return None  # never started
        try:
            return await self._client.status(Endpoint(member.client_urls[0], member.name))
        except MorganError:
            return None

    async def _perform(self, held: Leadership, view: _View, step: Step) -> None:
        match step:
            case Note(record):
                await self._write(held, view, record)
            case Forget(host):
                item = view.items[host]
                await self._store.txn([held.fence(), Unchanged(item.key, item.mod_revision)], [], [item.key])
            case Add(record):
                await self._write(held, view, record)  # first: it tells whose an unnamed member is
                member = await self._client.add_learner(record.peer_url)
                log.info("voter added", extra={"host": record.host, "member": f"{member.id:x}", "epoch": held.epoch})
            case Promote(record):
                await self._store.txn([held.fence()], [])  # still leading: what follows cannot be fenced
                await self._client.promote(int(record.member, 16))
                log.info("voter votes", extra={"host": record.host, "epoch": held.epoch})
            case Remove(seat, why):
                await self._store.txn([held.fence()], [])
                await self._client.remove(int(seat.member, 16))
                log.info("voter removed", extra={"host": seat.host, "reason": why, "epoch": held.epoch})
            case Readdress(seat, record):
                await self._store.txn([held.fence()], [])
                await self._client.readdress(int(seat.member, 16), record.peer_url)

    async def _write(self, held: Leadership, view: _View, record: VoterRecord) -> None:
        item = view.items.get(record.host)
        compares: list[Compare] = [held.fence(), Unchanged(keys.voter(record.host), item.mod_revision if item else 0)]
        await self._store.txn(compares, [Put(keys.voter(record.host), codec.encode(record))])

    def _complain(self, err: MorganError) -> None:
        """Once, not at every turn."""
        if err.message != self._refusal:
            log.warning("voters not changed", extra={"reason": err.message})
        self._refusal = err.message
