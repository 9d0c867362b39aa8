"""One simulated host: the real leader, planner, mirror, pulse, directory and detector; what is around them is fake.

Its two processes are the daemon (all loops of it in one ``HostLoop``) and the detector, which share the lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from morgand.base.errors import Fenced, Unavailable
from morgand.cluster.member_file import MemberFile
from morgand.cluster.mirror import Mirror
from morgand.cluster.snapshot import Inputs
from morgand.detector.beat import Beat
from morgand.detector.client import NOTHING, Heartbeats, Orders, Probe, Report
from morgand.detector.detector import Detector, DetectorView
from morgand.detector.lease import LeaseReader, LeaseWriter
from morgand.detector.link import Peer
from morgand.detector.suspicion import BEAT_S
from morgand.leader.leadership import Leader
from morgand.membership.lease import LeaseManager
from morgand.peers import route, server
from morgand.peers.directory import ClusterDirectory
from morgand.roles.catalog import BY_NAME, ELECTIONS, SPECS
from morgand.state.roles import RolePreference
from tests.simulation.loop import HostLoop
from tests.simulation.store import StoreClient

if TYPE_CHECKING:
    from tests.simulation.world import World

ROLES = tuple(spec for spec in SPECS if spec.exclusive)
MOVING = ("cache", "vectors")  # exclusive, and performed by engines that are not bound to their host
FIRST = {spec.name: spec.parts[0].name for spec in ROLES}
PREFERENCES: dict[str, RolePreference] = {}
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
TELL_EVERY_S = 0.5
BUFFERED = 200  # beats that wait for a process that stands still
ASK_S = 0.25, 0.6  # between two requests of a gateway


class Lease(LeaseReader):
    """What the detector's process and the daemon share; both look at virtual time."""

    def __init__(self, file: Path, now: Callable[[], float]) -> None:
        super().__init__(file)
        self._writer, self._now = LeaseWriter(file), now

    def begin_anew(self) -> None:
        """Another process writes it."""
        self._writer = LeaseWriter(self._path)

    def write(self, until: float) -> None:
        self._writer.write(until, self._now())

    def generation(self) -> int:
        return self._writer._generation if self._now() < self._writer._until else 0


class Beats(Heartbeats):
    """The daemon's side of the detector, which is no other process here."""

    def __init__(self, host: Host, folder: Path) -> None:
        super().__init__(folder, _never, HostClock(host), lambda: host.now)
        self._host = host
        self._lease = host.lease

    def order(self, orders: Orders) -> None:
        super().order(orders)
        self._host.obey(orders)

    async def run(self) -> None:
        await asyncio.Event().wait()

    def see(self, view: DetectorView) -> None:
        self._see(view)


async def _never(name: str, argv: tuple[str, ...], probe: Probe, report: Report) -> None:
    """No program is run."""


class HostClock:
    """Implements ``Clock`` over the world's time."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._host.now)

    def monotonic(self) -> float:
        return self._host.now

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


class Host:
    """One run of one host: a restart makes another. ``remembers`` is the copy of the truth it begins with."""

    def __init__(self, name: str, world: World, remembers: Mirror | None = None) -> None:
        self.name, self._world = name, world
        self.up, self.frozen = True, False
        self.lease = Lease(world.folder / name, lambda: world.now)
        self.detector: Detector | None = None
        self.loop = HostLoop(  # type: ignore[abstract]  # what asyncio does not ask for here is left out
            lambda: world.now, self._wake, lambda why: world.fail(f"{name}: {why}")
        )
        self.store = StoreClient(name, world, self.do)
        clock, self.beats = HostClock(self), Beats(self, world.folder)
        self.mirror = Mirror(self.store, clock)
        if remembers is not None:
            self.mirror._items, self.mirror.revision = dict(remembers._items), remembers.revision
        me = MemberFile("cluster", "morgan", name, "192.0.2.1", 7000)
        self.pulse = LeaseManager(lambda: me, self.beats, store=self.store, mirror=self.mirror, clock=clock)
        self.directory = ClusterDirectory(
            name, self.mirror, lambda _: False, specs=BY_NAME, leased=lambda: self.pulse.leased
        )
        self.leader = Leader(
            name, store=self.store, mirror=self.mirror, sights=self.beats, clock=clock,
            inputs=lambda: Inputs(ROLES, (), PREFERENCES, clock.now(), ELECTIONS),
        )  # fmt: skip
        self._orders: Orders | None = None
        self._backlog: list[Callable[[], None]] = []
        self._told: object = None
        self._told_at = 0.0
        self._due = False  # a tick that came while it stood still
        for work in (self.mirror.run(), self.pulse.run(), self.leader.run(), self._gateway()):
            self.spawn(work)
        self.loop.pump()

    @property
    def now(self) -> float:
        return self._world.now

    # --- standing still, and being gone ----------------------------------------------------------

    def do(self, deed: Callable[[], None]) -> None:
        """Something that the daemon hears of: now, or when it no longer stands still."""
        if not self.up:
            return
        if self.frozen:
            self._backlog.append(deed)
            return
        deed()
        self.loop.pump()

    def freeze(self) -> None:
        self.frozen = True

    def thaw(self, *, daemon_first: bool) -> None:
        """Go on where it stopped; either process may be the first."""
        self.frozen = False
        backlog, self._backlog = self._backlog, []
        for deed in backlog:
            deed()
        if daemon_first:
            self.loop.pump()
        if self._due:
            self._due = False
            self._tick(self.detector)
        self.loop.pump()

    def crash(self) -> None:
        self.up = False
        self.loop.end()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.spawn(work, str(work))

    def _wake(self, at: float) -> None:
        self._world.at(at, self._pump)

    def _pump(self) -> None:
        if self.up and not self.frozen:
            self.loop.pump()

    # --- the detector's process ------------------------------------------------------------------

    def obey(self, orders: Orders) -> None:
        known, self._orders = self._orders, orders
        if orders == known:
            return
        if self.detector is None:
            self._start_detector()
        else:
            self._configure(self.detector)

    def restart_detector(self, away_s: float) -> None:
        """Its process ends and is started again; what the daemon sees is nothing until then."""
        self.detector = None
        self._world.after(away_s, self._begin_again)

    def _begin_again(self) -> None:
        if self.up and self.detector is None and self._orders is not None:
            self.lease.begin_anew()
            self.do(lambda: self.beats.see(NOTHING))
            self._start_detector()

    def _start_detector(self) -> None:
        self.detector = Detector(self.name, self._world.boot(), self.now)
        self._configure(self.detector)
        self._world.after(self._world.chance.random() * BEAT_S, self._tick, self.detector)

    def _configure(self, detector: Detector) -> None:
        assert self._orders is not None
        peers = {host: Peer(*facts) for host, facts in self._orders.peers.items()}
        detector.configure(peers, self._orders.voters, self.now)

    def hear(self, beat: Beat) -> None:
        if not self.up or self.detector is None:
            return
        if self.frozen:
            if len(self._backlog) < BUFFERED:
                self._backlog.append(lambda: self._listen(beat))
            return
        self._listen(beat)

    def _listen(self, beat: Beat) -> None:
        if self.detector is not None:
            self.detector.hear(beat, self.now)
            if beat.votes:
                self._notify(self.detector)

    def _tick(self, detector: Detector | None) -> None:
        if not self.up or detector is None or detector is not self.detector:
            return
        if self.frozen:
            self._due = True
            return
        now, world = self.now, self._world
        for beat in detector.tick(now, world.boot()):
            world.send_beat(beat)
        self.lease.write(detector.leased_until(now))
        self._notify(detector)
        world.after((detector.next_tick() - now) * world.chance.uniform(1.0, 1.05), self._tick, detector)

    def _notify(self, detector: Detector) -> None:
        """What is seen: at once when it is something else, else twice a second."""
        view = detector.view(self.now)
        telling = (view.boot, view.leased, *((one.suspect, one.dead) for one in view.sights.values()))
        if telling == self._told and self.now - self._told_at < TELL_EVERY_S:
            return
        self._told, self._told_at = telling, self.now
        self._world.after(self._world.chance.uniform(0.0005, 0.005), self._see, view)

    def _see(self, view: DetectorView) -> None:
        self.do(lambda: self.beats.see(view))

    # --- requests --------------------------------------------------------------------------------

    async def _gateway(self) -> None:
        chance = self._world.chance
        while True:
            await asyncio.sleep(chance.uniform(*ASK_S))
            role = chance.choice(MOVING)
            holder = next((one for one in self.directory.holders(role) if one.part == FIRST[role]), None)
            if holder is None:
                continue
            if holder.host == self.name:
                self.spawn(self._serve(self.name, role, holder.epoch))
            else:
                self._world.ask(self.name, holder.host, role, holder.epoch)

    def asked(self, by: str, role: str, epoch: int) -> None:
        """A request of another host has come in."""
        self.do(lambda: self.spawn(self._serve(by, role, epoch)))

    async def _serve(self, by: str, role: str, epoch: int) -> None:
        """As ``PeerApi`` and ``Route`` do it."""
        if by != self.name and server.refuse(role, self.directory.held(role), epoch) is not None:
            return

        async def work() -> None:
            self._world.judge.begins(self.name, role, epoch)
            await asyncio.sleep(self._world.work_s())

        try:
            await route.acting(role, self.directory, work)
        except (Unavailable, Fenced):
            return
        self._world.judge.acts(self.name, by, role, epoch)
