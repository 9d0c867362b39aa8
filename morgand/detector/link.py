"""What one host knows of another from its beats, and the promises it makes to it. Pure."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from morgand.detector.beat import Beat, Stamp
from morgand.detector.suspicion import LEASE_S, START_S, WINDOW_S, WIRED_S, patience_s

FRESH_S = 0.4  # a peer whose echo is older than this does not hear us
ALONE_S = 0.5  # a peer that has not been joined to a majority for so long, while we are, is cut off from the others
STEADY_S = 1.0  # heard without a break before a vote is taken back
HOLD_S = 1.5  # and then for this long neither voted against nor granted: no vote, and no view, of before counts by then
FLAP_S, FLAPS_FOR_S = 0.6, 600.0  # silent for so little longer, without a restart, was no death; remembered for so long


@dataclass(frozen=True, slots=True)
class Peer:
    """A host to exchange beats with."""

    address: str
    port: int
    wired: bool = True


@dataclass(slots=True)
class Link:
    """``granted_at`` is when the last beat came in that was promised not to be voted against."""

    peer: Peer
    granted_at: float
    joined_at: float  # when it last said that it and a majority of the voters hear each other
    heard: Stamp | None = None  # the last beat that came in, of a boot that has proven itself
    claimed: Stamp | None = None  # one of a boot that has not yet: it is echoed, and nothing else
    heard_at: float = 0.0
    echoed_at: float = 0.0  # when the latest of our beats that it has heard was sent
    fresh_at: float = 0.0  # the same, with our own standstills forgiven
    granted: int = 0
    lapsed: bool = False  # it said last that it has no lease, and takes no grant of what we have heard of it
    grants_us_at: float = 0.0  # when the latest of our beats that it granted was sent
    votes: frozenset[str] = frozenset()
    well_since: float | None = None
    voted_at: float | None = None
    holds_until: float = 0.0
    rtt_s: float = 0.0
    gaps: deque[tuple[float, float]] = field(default_factory=deque)  # (when, gap): falling gaps, the oldest first
    flaps: deque[float] = field(default_factory=lambda: deque(maxlen=8))

    def take(self, beat: Beat, sent: float | None, now: float) -> bool:
        """A beat has come in; False when it is old or proves nothing.

        ``sent``: when the beat of ours that it echoes was sent; None if that is none of ours, or long ago.
        """
        if self.heard is None or beat.stamp.boot != self.heard.boot:
            if sent is None or now - sent > FRESH_S:
                self.claimed = beat.stamp
                return False
            self._begin(now)
        elif beat.stamp.seq <= self.heard.seq:
            return False
        self._remember_gap(now)
        self.heard, self.claimed, self.heard_at, self.lapsed = beat.stamp, None, now, beat.lapsed
        if sent is None:
            return False
        self.rtt_s += (max(0.0, now - sent - beat.ago_ms / 1000) - self.rtt_s) / 16
        self.echoed_at, self.fresh_at = max(self.echoed_at, sent), max(self.fresh_at, sent)
        self.votes = frozenset(beat.votes)
        return True

    def grant(self, beat: Beat, *, joined: bool, now: float) -> None:
        """Promise not to vote against the sender of a beat for a while, if it is well. ``joined``: we are."""
        if beat.joined or not joined:
            self.joined_at = max(self.joined_at, now)
        if beat.lapsed or self.voted_at is not None or now < self.holds_until:
            return
        if self.hears_us(now) and self._is_joined(now):
            self.granted, self.granted_at = beat.stamp.seq, now

    def due(self, now: float) -> float:
        """When its silence next has a consequence, it is quiet or voted against; infinite when it has none."""
        quiet_at = self.granted_at + LEASE_S
        return quiet_at if quiet_at > now else self._vote_due(now)

    def judge(self, now: float) -> None:
        """Cast the vote, or take it back."""
        if not self.in_touch(now):
            self.well_since = None
        elif self.well_since is None:
            self.well_since = now
        if self.voted_at is None:
            if now >= self._vote_due(now):
                self.voted_at, self.granted = now, 0
        elif self.well_since is not None and now - max(self.well_since, self.voted_at) >= STEADY_S:
            if 0.0 < self.well_since - self.voted_at < FLAP_S:
                self.flaps.append(now)
            self._hold(now)

    def forgive(self, time_s: float, now: float) -> None:
        """We stood still: what was not heard meanwhile says nothing about the peer."""
        for name in ("granted_at", "joined_at", "fresh_at", "heard_at"):
            was: float = getattr(self, name)
            setattr(self, name, max(was, min(was + time_s, now)))

    def quiet(self, now: float) -> bool:
        """Whether nothing was granted for as long as a lease lasts."""
        return self.heard is not None and now - self.granted_at >= LEASE_S

    def well_s(self, now: float) -> float:
        """For how long it has been heard and has heard us; 0 unless it is joined, and granted its lease."""
        granting = self.voted_at is None and self.granted > 0 and self._is_joined(now)
        return now - self.well_since if granting and self.well_since is not None else 0.0

    def echo(self, now: float) -> tuple[Stamp | None, int, int]:
        """What a beat for it says: the last of its beats that came in, how long ago (ms), the last that was granted."""
        if self.claimed is not None:
            return self.claimed, 0, 0
        return self.heard, int(1000 * (now - self.heard_at)), self.granted

    def in_touch(self, now: float) -> bool:
        """Whether it hears us and we hear it."""
        return self.hears_us(now) and now - self.heard_at <= FRESH_S

    def hears_us(self, now: float) -> bool:
        return now - self.fresh_at <= FRESH_S

    def patience_s(self, now: float) -> float:
        gap_s = self.gaps[0][1] if self.gaps else 0.0
        flaps = sum(1 for at in self.flaps if now - at < FLAPS_FOR_S)
        borne = patience_s(wired=self.peer.wired, rtt_s=self.rtt_s, gap_s=gap_s, flaps=flaps)
        return borne if self.heard is not None else max(borne, START_S)

    def _vote_due(self, now: float) -> float:
        return self._borne_since() + self.patience_s(now) if self.voted_at is None else math.inf

    def _is_joined(self, now: float) -> bool:
        return now - self.joined_at <= ALONE_S

    def _borne_since(self) -> float:
        """Whoever has no lease, and says so, is not spared for promises that it has never heard."""
        return max(min(self.fresh_at, self.granted_at), self.holds_until) if self.lapsed else self.granted_at

    def _begin(self, now: float) -> None:
        """A boot has proven itself. What was promised to the one before it has lost; before the first there was none to
        be missed, however long it took to start."""
        if self.heard is None:
            self.granted_at = max(self.granted_at, now)
        self.heard_at, self.joined_at, self.granted = now, max(self.joined_at, now), 0
        self.gaps.clear()
        if self.voted_at is not None:
            self._hold(now)

    def _hold(self, now: float) -> None:
        self.voted_at, self.holds_until = None, now + HOLD_S
        self.granted_at = self.joined_at = self.holds_until

    def _remember_gap(self, now: float) -> None:
        gap = now - self.heard_at
        if gap > WIRED_S:
            return  # that was a fault, and says nothing about the link
        while self.gaps and self.gaps[-1][1] <= gap:
            self.gaps.pop()
        self.gaps.append((now, gap))
        while self.gaps and now - self.gaps[0][0] > WINDOW_S:
            self.gaps.popleft()
