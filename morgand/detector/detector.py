"""The detector's rules: beats in; beats and a view out. No socket, no clock, no chance: the simulation runs this.

A peer is well while its beats come in, echo recent beats of ours, and say that a majority of the voters is as well off
with it. One that is not is granted nothing any more, and after ``patience_s`` without a grant this host votes against
it; where it says that its lease has lapsed, after as long without a beat of ours that it has heard. It is agreed to be
dead when this host, which has its own lease, and a majority of the other voters vote against it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from morgand.detector.beat import Beat, Stamp
from morgand.detector.link import Link, Peer
from morgand.detector.suspicion import BEAT_S, VOTE_S, agreed, lease_until, majority
from morgand.state.hosts import PeerHealth

STALL_S = 0.3  # whoever stood still so long forgives the others as much
ASLEEP_S = 2.0  # and after this long begins anew: the others have given it up
KEPT = 64  # send times of our last beats
BETWEEN_S = 0.01  # ticks at least


@dataclass(frozen=True, slots=True)
class DetectorView:
    """What the detector of one host says at a time of its clock. ``boot`` changes with every start and after sleep."""

    at: float
    boot: int
    leased: bool
    sights: Mapping[str, PeerHealth]


class Detector:
    """Of one host. ``boot`` is a random number, new at every start; times are of a clock that goes on in sleep."""

    def __init__(self, me: str, boot: int, now: float) -> None:
        self._me = me
        self._voters: frozenset[str] = frozenset()
        self._links: dict[str, Link] = {}
        self._ticked = now
        self._begin(boot, now)

    def configure(self, peers: Mapping[str, Peer], voters: Collection[str], now: float) -> None:
        """Whom to exchange beats with (not this host itself), and who votes."""
        self._voters = frozenset(voters)
        for host in self._links.keys() - peers.keys():
            del self._links[host]
        for host, peer in peers.items():
            self._links.setdefault(host, Link(peer, now, now)).peer = peer

    def next_tick(self) -> float:
        """When: ``BEAT_S`` after the last one, or as soon as a silence has a consequence: others wait for that."""
        dues = (link.due(self._ticked) for link in self._links.values())
        return min(self._ticked + BEAT_S, max(self._ticked + BETWEEN_S, min(dues, default=math.inf)))

    def tick(self, now: float, boot: int) -> list[Beat]:
        """At ``next_tick``: judge, and what to send. ``boot`` is used when this host turns out to have slept.

        Beats that came in meanwhile must have been told before.
        """
        stood_still_s = now - self._ticked
        if stood_still_s > ASLEEP_S:
            self._begin(boot, now)
        for link in self._links.values():
            if stood_still_s > STALL_S:
                link.forgive(stood_still_s - BEAT_S, now)
            link.judge(now)
        self._ticked = now
        self._seq += 1
        self._sent[self._seq] = now
        self._sent.pop(self._seq - KEPT, None)
        stamp, joined = Stamp(self._boot, self._seq), self._joined(now)
        votes = tuple(sorted(host for host, link in self._links.items() if link.voted_at is not None))
        lapsed = not joined and now >= self.leased_until(now)
        if lapsed:
            self._renounced = self._seq
        return [
            Beat(self._me, host, stamp, *link.echo(now), joined, votes, lapsed) for host, link in self._links.items()
        ]

    def hear(self, beat: Beat, now: float) -> None:
        """A beat has come in. One that is for another host, old, or from a stranger changes nothing."""
        link = self._links.get(beat.sender)
        if link is None or beat.receiver != self._me:
            return
        ours = beat.heard is not None and beat.heard.boot == self._boot
        sent = self._sent.get(beat.heard.seq) if ours and beat.heard else None
        if not link.take(beat, sent, now):
            return
        granted = self._sent.get(beat.granted) if beat.granted > self._renounced else None
        if granted is not None:
            link.grants_us_at = max(link.grants_us_at, granted)
        link.grant(beat, joined=self._joined(now), now=now)

    def _joined(self, now: float) -> bool:
        """Whether this host and a majority of the voters hear each other."""
        near = [host for host in self._voters if host == self._me or self._in_touch(host, now)]
        return len(near) >= majority(len(self._voters))

    def _in_touch(self, host: str, now: float) -> bool:
        link = self._links.get(host)
        return link is not None and link.in_touch(now)

    def leased_until(self, now: float) -> float:
        granted = {host: link.grants_us_at for host, link in self._links.items()}
        return lease_until(self._me, self._voters, granted, now)

    def view(self, now: float) -> DetectorView:
        leased = now < self.leased_until(now)
        sights = {host: self._peer_health(host, link, now, leased=leased) for host, link in self._links.items()}
        return DetectorView(now, self._boot, leased, sights)

    def _peer_health(self, host: str, link: Link, now: float, *, leased: bool) -> PeerHealth:
        suspect = link.voted_at is not None
        against = {other for other, one in self._links.items() if host in one.votes and now - one.echoed_at <= VOTE_S}
        dead = suspect and leased and agreed(host, self._voters, {*against, self._me})
        silent_s, quiet = max(0.0, now - link.heard_at), suspect or link.quiet(now)
        return PeerHealth(silent_s, quiet=quiet, suspect=suspect, dead=dead, well_s=link.well_s(now))

    def _begin(self, boot: int, now: float) -> None:
        self._boot, self._seq = boot, 0
        self._renounced = 0  # the last beat that said that our lease has lapsed
        self._ticked = now
        self._sent: dict[int, float] = {}
        self._links = {host: Link(link.peer, now, now) for host, link in self._links.items()}
