"""systemd-logind (or elogind) announces sleep and shutdown over D-Bus, and waits for whoever holds a delay lock.

The lock is a file descriptor that is released by closing it. logind waits no longer than its InhibitDelayMaxSec: 5 s
unless set otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Literal

from morgand.base.errors import MorganError, Unavailable
from morgand.host.power.bus import Bus, as_it_stands, connected, socket_of
from morgand.host.power.events import Back, Leaving, Tell
from morgand.host.power.steps import STEPS, PowerAction, PowerNews, Standing, hand_over_s

log = logging.getLogger("morgand.goodbye")

SYSTEM_BUS = "unix:path=/var/run/dbus/system_bus_socket"
# one lock each: for both in one lock polkit asks for a right that services without a session do not have
LOCKS = ("sleep", "shutdown")
DELAY_MAX_US = 5_000_000  # where logind does not say
RETRY_S = 5.0


class Logind:
    """``address`` is the bus, by default the system's."""

    def __init__(self, address: str | None = None, *, retry_s: float = RETRY_S) -> None:
        self._address = address or os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or SYSTEM_BUS
        self._retry_s = retry_s

    async def run(self, tell: Tell) -> None:
        socket = socket_of(self._address)
        if socket is not None and not await asyncio.to_thread(socket.exists):
            log.info("sleep and shutdown are not announced here", extra={"reason": "There is no system bus."})
            return
        async with asyncio.TaskGroup() as group:
            watch = _Watch(tell, group, self._retry_s)
            while True:
                try:
                    async with connected(self._address) as bus:
                        await watch.follow(bus)
                except Unavailable as err:
                    watch.note(err.message)
                    if not watch.connected:
                        return
                await asyncio.sleep(self._retry_s)


class _Watch:
    """What outlives a connection: how the machine stands, and who is being told."""

    def __init__(self, tell: Tell, group: asyncio.TaskGroup, retry_s: float) -> None:
        self._notify, self._group, self._retry_s = tell, group, retry_s
        self._telling: asyncio.Task[None] | None = None
        self._locks: dict[str, int] = {}
        self._standing = Standing.HERE
        self._delay_max_us = DELAY_MAX_US
        self._noted: str | None = None
        self.connected = False

    async def follow(self, bus: Bus) -> None:
        """Until the connection is lost: then Unavailable."""
        self.connected = True
        try:
            while True:
                lacking = bool(bus.owner) and self._standing is Standing.HERE and len(self._locks) < len(LOCKS)
                news = await bus.next(self._retry_s if lacking else None)
                if bus.lost.done():
                    raise Unavailable("The connection to the system bus was lost.")
                if news is None:
                    properties = await bus.properties()
                    self._delay_max_us = properties.get("InhibitDelayMaxUSec", DELAY_MAX_US)
                    news = as_it_stands(properties) if bus.owner else PowerNews.SILENT
                await self._step(bus, news)
        finally:
            self._release()

    def note(self, reason: str) -> None:
        """Log why the machine does not wait, or that it does: once, not at each attempt."""
        if reason and reason != self._noted:
            log.info("the machine does not wait for goodbyes", extra={"reason": reason})
        elif reason != self._noted:
            log.info("the machine waits for goodbyes")
        self._noted = reason

    async def _step(self, bus: Bus, news: PowerNews) -> None:
        step = STEPS[self._standing, news]
        self._standing = step.then
        if news is PowerNews.SILENT:
            self.note("There is no logind.")
        for act in step.acts:
            match act:
                case PowerAction.HAND_OVER:
                    await self._hand_over("sleep" if news is PowerNews.SLEEPS else "shutdown")
                case PowerAction.RELEASE:
                    self._release()
                case PowerAction.TAKE:
                    await self._take(bus)
                case PowerAction.TELL_BACK:
                    self._announce(Back())

    async def _hand_over(self, kind: Literal["sleep", "shutdown"]) -> None:
        leaving = Leaving(kind, hand_over_s(self._delay_max_us))
        log.info("the machine leaves", extra={"kind": kind, "within_s": leaving.within_s})
        telling = self._announce(leaving)
        # not a timeout around it: the lock must go even when the handler does not give up
        done, _ = await asyncio.wait((telling,), timeout=leaving.within_s)
        if not done:
            log.warning("not everything was handed over in time", extra={"kind": kind})
            telling.cancel()

    def _announce(self, news: Leaving | Back) -> asyncio.Task[None]:
        before = self._telling
        if before is not None:
            before.cancel()
        self._telling = self._group.create_task(self._tell_after(before, news))
        return self._telling

    async def _tell_after(self, before: asyncio.Task[None] | None, news: Leaving | Back) -> None:
        if before is not None:
            await asyncio.wait((before,))
        try:
            await self._notify(news)
        except MorganError as err:
            log.warning("a goodbye failed", extra={"reason": str(err)})

    async def _take(self, bus: Bus) -> None:
        for what in LOCKS:
            if what not in self._locks:
                taken = await bus.inhibit(what)
                if isinstance(taken, str):
                    self.note(taken)
                    return
                self._locks[what] = taken
        self.note("")

    def _release(self) -> None:
        while self._locks:
            os.close(self._locks.popitem()[1])
