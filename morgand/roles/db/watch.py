"""Looks at this host's PostgreSQL again and again, and performs what ``promotion`` decides."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass, field, replace

from morgand.base.aio import in_order
from morgand.base.clock import Clock
from morgand.base.errors import Conflict, MorganError, StorageFull, Unavailable
from morgand.cluster.store import ClusterStore
from morgand.roles.db import files
from morgand.roles.db.cluster import DatabaseCluster
from morgand.roles.db.copy import LocalCopy
from morgand.roles.db.holding import Holding
from morgand.roles.db.life import PatroniSetup, RoleReport
from morgand.roles.db.patroni import pg_hba, shared_settings
from morgand.roles.db.patroni_keys import patroni_now
from morgand.roles.db.promotion import (
    TRIED,
    Action,
    Outcome,
    PromotionState,
    ServerReading,
    ServerState,
    ServerStep,
    Tried,
    decide,
    follow_up,
    position,
)
from morgand.roles.db.rest import Rest
from morgand.roles.db.server import LocalServer

log = logging.getLogger("morgand.roles.db.watch")

LOOK_EVERY_S, LOOK_SOON_S = 0.2, 0.05  # the second while everybody waits for this server
RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class ServerAgent:
    """Performs steps on what is there: the server here, its Patroni, Morgan's database on it, the copy for readers."""

    setup: PatroniSetup
    server: LocalServer
    holding: Holding
    copy: LocalCopy
    report: RoleReport
    store: ClusterStore
    clock: Clock
    waking: set[asyncio.Task[None]] = field(default_factory=set)

    async def perform(self, action: Action) -> Tried | None:
        """None where nothing follows from it."""
        if action.step in TRIED:
            return await self._try(action)
        await self._do(action)
        return None

    async def _try(self, action: Action) -> Tried:
        try:
            if action.step is ServerStep.PART:
                done = await self.server.part_with(sorted(action.names))
            elif action.step is ServerStep.REFUSE:
                done = await self._refuse(action.names)
            else:
                await (self._take() if action.step is ServerStep.TAKE else self.holding.renew())
                done = True
        except Conflict as err:
            return Tried(action, Outcome.NEWER, str(err))
        except MorganError as err:
            return Tried(action, Outcome.FAILED, str(err))
        return Tried(action, Outcome.DONE if done else Outcome.FAILED)

    async def _do(self, action: Action) -> None:
        if action.step is ServerStep.OFFER:
            self.copy.offer(self.server.url)
        elif action.step is ServerStep.WITHDRAW:
            self.copy.withdraw()
        elif action.step is ServerStep.HOLD:
            self.holding.lose()
        elif action.step is ServerStep.MARK_WHOLE:
            with contextlib.suppress(StorageFull):  # at the next look, then
                await asyncio.to_thread(files.mark_complete, self.setup.site)
        elif action.step is ServerStep.STIR:
            await self.server.stir()
        elif action.step is ServerStep.WAKE:
            self._wake()
        elif action.step is ServerStep.CONFIGURE:
            await _configure(self.setup.rest)
        elif action.step is ServerStep.HAND_OVER:
            await self._hand_over()
        elif action.said is not None:
            self.report.say(*action.said)

    async def _take(self) -> None:
        await asyncio.to_thread(files.mark_complete, self.setup.site)
        await self.server.ensure_application()
        await self.holding.take(self.server.url)
        await self.holding.renew()

    async def _refuse(self, addresses: frozenset[str]) -> bool:
        """Raises EngineError where the disk is full, which is told elsewhere."""
        await asyncio.to_thread(files.write_access, self.setup.site, self.setup.account, pg_hba(addresses))
        return await self.server.read_access()

    async def _hand_over(self) -> None:
        """To the synchronous standby: perhaps its host can use the database."""
        try:
            for standby in (await patroni_now(self.store)).synchronous[:1]:
                await self.setup.rest.switchover(self.setup.site.host, standby)
        except MorganError as err:
            log.warning("database not passed on", extra={"reason": err.message})
        await self.clock.sleep(RETRY_S)

    def _wake(self) -> None:
        """Have Patroni look at once; it does by itself within a second. Beside: etcd may be slow just now."""
        task = asyncio.create_task(_configure(self.setup.rest), name="wake-patroni")
        self.waking.add(task)
        task.add_done_callback(self.waking.discard)

    async def close(self) -> None:
        for task in self.waking:
            task.cancel()
        await in_order(self.copy.close, self.holding.close, self.server.close)


async def _configure(rest: Rest) -> None:
    """Those of a newer Morgan can wait. Patroni's loop goes round at once, whether they change anything or not."""
    with contextlib.suppress(Unavailable, Conflict):
        await rest.configure(shared_settings())


class ServerWatch:
    """``run`` for as long as a life of Patroni. What it remembers outlives that."""

    def __init__(
        self, cluster: DatabaseCluster, holding: Holding, copy: LocalCopy, report: RoleReport, *, store: ClusterStore,
        clock: Clock,
    ) -> None:  # fmt: skip
        self._cluster, self._holding, self._copy, self._report = cluster, holding, copy, report
        self._store, self._clock = store, clock
        self._state = PromotionState(followed=clock.monotonic())

    @property
    def behind_s(self) -> float:
        """For how long the server has been a standby that does not get on."""
        return self._clock.monotonic() - self._state.followed

    def none_refused(self) -> None:
        """The server starts, and is told anew who gets no copy."""
        self._state = replace(self._state, refused=frozenset())

    async def run(self, setup: PatroniSetup) -> None:
        server = LocalServer(setup.site, setup.secrets, setup.sockets)
        agent = ServerAgent(setup, server, self._holding, self._copy, self._report, self._store, self._clock)
        self._state = replace(self._state, followed=self._clock.monotonic())
        at = None
        try:
            while True:
                known = self._known()
                seen = self._reading(setup, await server.look())
                if position(seen) is not at:
                    at = position(seen)
                    log.info("database server", extra={"position": at.value})
                await self._act(seen, setup, agent)
                await self._news(known, LOOK_SOON_S if self._holding.due else LOOK_EVERY_S)
        finally:
            await asyncio.shield(agent.close())

    async def _act(self, seen: ServerReading, setup: PatroniSetup, agent: ServerAgent) -> None:
        self._state, actions = decide(seen, self._state)
        waiting = deque(actions)
        while waiting:
            action = waiting.popleft()
            log.debug("database step", extra={"step": action.step.value, "cause": action.cause})
            tried = await agent.perform(action)
            if tried is not None:
                again = self._reading(setup, seen.server)
                self._state, following = follow_up(tried, again, self._state)
                waiting.extendleft(reversed(following))

    def _reading(self, setup: PatroniSetup, server: ServerState) -> ServerReading:
        fenced = self._cluster.fenced()
        return ServerReading(
            server, leads=self._cluster.leads(), taken=self._holding.taken, due=self._holding.due,
            now=self._clock.monotonic(), fenced=fenced, given_up=setup.site.host in fenced,
            trouble=self._report.trouble,
        )  # fmt: skip

    def _known(self) -> tuple[object, ...]:
        """What is acted on at once when it changes."""
        return self._cluster.fenced(), self._cluster.leads(), self._holding.due

    async def _news(self, known: tuple[object, ...], within_s: float) -> None:
        """Wait until that is not what is ``known``, ``within_s`` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                changed = self._cluster.changed()
                while self._known() == known:
                    await changed.wait()
                    changed = self._cluster.changed()
