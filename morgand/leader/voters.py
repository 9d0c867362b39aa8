"""The leader brings etcd to the voters that ``autopilot.next_step`` asks for, one step at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from morgand.base.clock import Clock
from morgand.base.errors import Conflict, MorganError, NotFound, StoreConflict, Unavailable
from morgand.cluster import codec, keys, voters
from morgand.cluster.election import Leadership
from morgand.cluster.etcd import Endpoint, EtcdClient
from morgand.cluster.etcd_wire import EtcdMember, EtcdStatus
from morgand.cluster.store import ClusterStore, Compare, Item, Put, Unchanged
from morgand.cluster.view import View
from morgand.cluster.voters import (
    Add,
    Forget,
    MoveLeader,
    Note,
    Promote,
    Readdress,
    Remove,
    Step,
    VoterCandidate,
    VoterPatience,
    VoterRecord,
    VotingMember,
)
from morgand.leader.voter_plan import next_step

log = logging.getLogger("morgand.voters")

EVERY_S = 1.0
SOON_S = 0.1  # after a step: the next one may follow from it
BLINK_S = 10.0  # whoever did not look for longer than that knows nothing of how long things last
MOVE_EVERY_S = 5.0
RETRY_S = 1800.0  # a host that did not get on is no candidate for so long
LAG_ENTRIES = 100  # a member this far behind has caught up, for our purposes: etcd itself asks for nine tenths


@dataclass(frozen=True, slots=True)
class _View:
    seats: tuple[VotingMember, ...]
    records: Mapping[str, VoterRecord]
    items: Mapping[str, Item]
    endpoints: Mapping[str, Endpoint]  # by member


@dataclass(frozen=True, slots=True)
class _Since:
    """When a member was first seen well without a break (None: it is not), and when it last was or got further."""

    well: float | None
    moved: float
    applied: int

    def seen(self, now: float, status: EtcdStatus | None, *, well: bool) -> _Since:
        applied = status.applied if status is not None else 0
        begun = (now if self.well is None else self.well) if well else None
        return _Since(begun, now if well or applied > self.applied else self.moved, max(applied, self.applied))


class VoterKeeper:
    """``run`` is a duty of the leader: it ends when cancelled. ``candidates`` are the cluster's hosts."""

    def __init__(
        self, store: ClusterStore, client: EtcdClient, clock: Clock, candidates: Callable[[], Sequence[VoterCandidate]],
        *, steady_s: float = voters.STEADY_S, dead_s: float = voters.DEAD_S,
    ) -> None:  # fmt: skip
        self._store, self._client, self._clock = store, client, clock
        self._candidates = candidates
        self._patience = VoterPatience(steady_s=steady_s, dead_s=dead_s)
        self._since: dict[int, _Since] = {}
        self._looked_at = self._moved_at = float("-inf")
        self._failed_at: dict[str, float] = {}
        self._refusal = ""

    async def run(self, held: Leadership) -> None:
        self._since.clear()
        while True:
            stepped = False
            try:
                if not self._store.alone:
                    stepped = await self._turn(held)
                self._refusal = ""
            except (Conflict, NotFound, StoreConflict, Unavailable) as err:
                self._complain(err)
            await self._clock.sleep(SOON_S if stepped else EVERY_S)

    async def _turn(self, held: Leadership) -> bool:
        """Whether there was something to do."""
        view = await self._view()
        now = self._clock.monotonic()
        failed = {host for host, at in self._failed_at.items() if now - at < RETRY_S}
        candidates = [replace(one, failed=one.host.id in failed) for one in self._candidates()]
        may_move = now - self._moved_at >= MOVE_EVERY_S
        step = next_step(
            candidates, view.seats, view.records, leader=held.host, may_move=may_move, patience=self._patience
        )
        if step is not None:
            await self._perform(held, view, step)
        return step is not None

    async def _view(self) -> _View:
        stored = View(*await self._store.list(keys.VOTERS))
        records = list(stored.voters.values())
        members = await self._client.members()
        found = await asyncio.gather(*(self._status(member) for member in members))
        self._poll(members, found)
        answered = [status.leader for status in found if status is not None]
        leading = next((one for one in answered if answered.count(one) * 2 > len(answered)), 0)
        return _View(
            tuple(self._seat(member, records, leading) for member in members),
            stored.voters,
            {host: stored.items[keys.voter(host)] for host in stored.voters},
            {f"{one.id:x}": Endpoint(one.client_urls[0], one.name) for one in members if one.client_urls},
        )

    def _poll(self, members: Sequence[EtcdMember], found: Sequence[EtcdStatus | None]) -> None:
        """Take note of who is well: started, answering, led by somebody, and nearly as far as the furthest."""
        now = self._clock.monotonic()
        before = self._since if now - self._looked_at <= BLINK_S else {}
        most = max((status.applied for status in found if status is not None), default=0)
        self._since, self._looked_at = {}, now
        for member, status in zip(members, found, strict=True):
            well = status is not None and bool(status.leader) and status.applied + LAG_ENTRIES >= most
            known = before.get(member.id, _Since(None, now, 0))
            self._since[member.id] = known.seen(now, status, well=well)

    def _seat(self, member: EtcdMember, records: Sequence[VoterRecord], leading: int) -> VotingMember:
        since = self._since[member.id]
        url = member.peer_urls[0] if member.peer_urls else ""
        host = member.name or next((one.host for one in records if one.peer_url == url), None)
        steady_s = self._looked_at - since.well if since.well is not None else 0.0
        return VotingMember(
            f"{member.id:x}", host, url, member.learner, healthy=since.well is not None, steady_s=steady_s,
            ill_s=self._looked_at - since.moved, leads=member.id == leading,
        )  # fmt: skip

    async def _status(self, member: EtcdMember) -> EtcdStatus | None:
        """None as well when another member answers in its place, as one does that was removed and has not ended."""
        if not member.name or not member.client_urls:
            return None  # never started
        try:
            status = await self._client.status(Endpoint(member.client_urls[0], member.name))
        except MorganError:
            return None
        return status if status.header.member_id == member.id else None

    async def _perform(self, held: Leadership, view: _View, step: Step) -> None:
        """One line tells of each, once it is done."""
        match step:
            case Note(record):
                await self._write(held, view, record)
                self._notify(held, "voter noted", record.host, f"etcd has it as {record.state}")
            case Forget(host):
                item = view.items[host]
                await self._store.txn([held.fence(), Unchanged(item.key, item.mod_revision)], [], [item.key])
                self._notify(held, "voter forgotten", host, "etcd does not have it")
            case Add(record, why, votes):
                await self._write(held, view, record)  # first: it tells whose an unnamed member is
                member = await self._client.add_member(record.peer_url, learner=not votes)
                self._notify(held, "voter added", record.host, why, member=f"{member.id:x}")
            case Promote(record):
                await self._leading(held)
                await self._client.promote(int(record.member, 16))
                self._notify(held, "voter votes", record.host, "it has learned")
            case Remove(seat, why, failed):
                await self._leading(held)
                await self._client.remove(int(seat.member, 16))
                if failed and seat.host is not None:
                    self._failed_at[seat.host] = self._clock.monotonic()
                self._notify(held, "voter removed", seat.host, why, member=seat.member)
            case Readdress(seat, record):
                await self._leading(held)
                await self._client.readdress(int(seat.member, 16), record.peer_url)
                self._notify(held, "voter readdressed", seat.host, f"from {seat.peer_url} to {record.peer_url}")
            case MoveLeader(seat_from, seat_to, why):
                self._moved_at = self._clock.monotonic()
                await self._leading(held)
                await self._client.transfer_leadership(view.endpoints[seat_from.member], int(seat_to.member, 16))
                self._notify(held, "etcd's leader moved", seat_to.host, why, previous=seat_from.host)

    async def _leading(self, held: Leadership) -> None:
        """Still leading: what follows cannot be fenced. Raises StoreConflict."""
        await self._store.txn([held.fence()], [])

    async def _write(self, held: Leadership, view: _View, record: VoterRecord) -> None:
        item = view.items.get(record.host)
        compares: list[Compare] = [held.fence(), Unchanged(keys.voter(record.host), item.mod_revision if item else 0)]
        await self._store.txn(compares, [Put(keys.voter(record.host), codec.encode(record))])

    def _notify(self, held: Leadership, what: str, host: str | None, cause: str, **more: str | None) -> None:
        log.info(what, extra={"host": host, "cause": cause, "epoch": held.epoch, **more})

    def _complain(self, err: MorganError) -> None:
        """Once, not at every turn."""
        if err.message != self._refusal:
            log.warning("voters not changed", extra={"reason": err.message})
        self._refusal = err.message
