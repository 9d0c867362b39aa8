"""Another voter leads etcd as soon as the host of its leader has been silent for as long as a lease lasts.

By itself etcd elects after one to two seconds of silence, and later still when its leader is heard but hears nobody:
its heartbeats keep the others from electing until it finds out. Hosts know sooner. So each voter that finds the host
of the leader quiet tells its own etcd to stand for election, one after the other, with the message a leader hands over
by (MsgTimeoutNow). That is safe at any time: who stands when decides who leads etcd, never what is committed. An etcd
that does not take the message elects as slowly as ever.

Source: etcd 3.4, raft/raft.go (``stepFollower``, ``campaign``), raft/raftpb/raft.proto, and
etcdserver/api/rafthttp/http.go (``pipelineHandler``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum

from morgand.base.clock import Clock
from morgand.base.errors import MorganError
from morgand.cluster.etcd import Endpoint, EtcdClient
from morgand.cluster.etcd_process import EtcdProcess
from morgand.cluster.etcd_wire import EtcdStatus
from morgand.cluster.mirror import Mirror
from morgand.state.hosts import PeerHealth

log = logging.getLogger("morgand.succession")

TURN_S = 0.2  # an election takes 0.02 s, on busy processors ten times that
LOOK_EVERY_S = 0.05
GIVE_UP_S = 2.0  # by then etcd has elected by itself
TIMEOUT_NOW = 14  # raft.proto, MessageType.MsgTimeoutNow
OLDEST = "3.0.0"  # the etcd that this message needs at least


class LeaderTerm(StrEnum):
    STAND = "stand"
    WAIT = "wait"  # it is another voter's turn
    LEAVE = "leave"  # nothing is to be done, or nothing by this host


def turn(me: str, leader: str, voters: Mapping[str, str], quiet: Collection[str], waited_s: float) -> LeaderTerm:
    """Whether the etcd of this host is to stand for election now.

    ``leader`` is the member it follows, empty for none; ``voters`` are hosts and their members. Who survives stands in
    the order of the ids: a voter that lacks what others have is not elected, and the next one has its turn.
    """
    heirs = sorted(host for host in voters if host not in quiet)
    lost = {member for host, member in voters.items() if host in quiet}
    if me not in heirs or not lost or (leader and leader not in lost):
        return LeaderTerm.LEAVE
    return LeaderTerm.STAND if waited_s >= heirs.index(me) * TURN_S else LeaderTerm.WAIT


def timeout_now(status: EtcdStatus) -> bytes:
    """The message, as protobuf, to the member that has this status; in another term than that it changes nothing."""
    me = status.header.member_id
    fields = {1: TIMEOUT_NOW, 2: me, 3: me, 4: status.term}  # type, to, from, term
    return b"".join(bytes([number << 3]) + _varint(value) for number, value in fields.items())


def headers(status: EtcdStatus) -> dict[str, str]:
    """What one member of etcd shows another with every message."""
    return {
        "X-Etcd-Cluster-ID": f"{status.header.cluster_id:x}", "X-Server-From": f"{status.header.member_id:x}",
        "X-Server-Version": status.version, "X-Min-Cluster-Version": OLDEST,
    }  # fmt: skip


class Succession:
    """``run`` until cancelled. ``sight`` and ``changed`` are what this host's detector sees, and when that changes;
    ``leased``: whether the others count on this host. One that hears nobody finds all of them quiet, and its etcd
    would take the lead from one that is well."""

    def __init__(
        self, process: EtcdProcess, client: EtcdClient, mirror: Mirror, clock: Clock, *,
        sight: Callable[[str], PeerHealth | None], changed: Callable[[], asyncio.Event],
        leased: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._process, self._client, self._mirror, self._clock = process, client, mirror, clock
        self._peer_health, self._changed, self._leased = sight, changed, leased

    async def run(self) -> None:
        seen = set[str]()
        while True:
            changed = self._changed()
            quiet = self._quiet(self._voters())
            if quiet - seen:
                await self._succeed()
            seen = quiet
            await changed.wait()

    async def _succeed(self) -> None:
        """Stand once at most: whatever is the matter then, etcd elects by itself meanwhile."""
        place, began = self._process.place, self._clock.monotonic()
        while (waited_s := self._clock.monotonic() - began) < GIVE_UP_S:
            try:
                status = await self._client.status(Endpoint(place.client_url, place.host_id))
            except MorganError as err:
                log.debug("etcd not asked who leads it", extra={"reason": err.message})
            else:
                voters = self._voters()
                leader = f"{status.leader:x}" if status.leader else ""
                what = turn(place.host_id, leader, voters, self._quiet(voters), waited_s)
                if what is LeaderTerm.STAND and self._leased():
                    answer = await self._process.ask_peer("POST", "/raft", timeout_now(status), headers(status))
                    log.info("etcd told to elect", extra={"lost": leader, "term": status.term, "answer": answer})
                if what is not LeaderTerm.WAIT:
                    return
            await self._clock.sleep(LOOK_EVERY_S)

    def _voters(self) -> dict[str, str]:
        return {one.host: one.member for one in self._mirror.view.voting}

    def _quiet(self, voters: Collection[str]) -> set[str]:
        return {host for host in voters if (sight := self._peer_health(host)) is not None and sight.quiet}


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit of a byte says that there are more."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
