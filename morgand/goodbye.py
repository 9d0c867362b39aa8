"""Goodbyes: this machine says that it is about to sleep or to go down, and waits until its roles are handed over.

On Linux systemd-logind (or elogind) announces both over D-Bus and waits for whoever holds a delay lock, a file
descriptor that is released by closing it. It waits no longer than its InhibitDelayMaxSec: 5 s unless set otherwise.
A machine that announces nothing, as most containers, is no fault. Other systems' hooks belong behind ``PowerEvents``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import unquote

from morgand.errors import MorganError, Unavailable

if TYPE_CHECKING:
    from dbus_fast import Message
    from dbus_fast.aio import MessageBus

log = logging.getLogger("morgand.goodbye")

SYSTEM_BUS = "unix:path=/var/run/dbus/system_bus_socket"
BUS, BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
LOGIND, LOGIND_PATH = "org.freedesktop.login1", "/org/freedesktop/login1"
MANAGER = "org.freedesktop.login1.Manager"
RULES = (
    f"type='signal',sender='{BUS}',member='NameOwnerChanged',arg0='{LOGIND}'",
    f"type='signal',sender='{LOGIND}',interface='{MANAGER}',member='PrepareForSleep'",
    f"type='signal',sender='{LOGIND}',interface='{MANAGER}',member='PrepareForShutdown'",
)
# one lock each: for both in one lock polkit asks for a right that services without a session do not have
LOCKS = ("sleep", "shutdown")

SHARE = 0.8  # of the time the machine waits; the rest is for closing the lock and for a busy machine
LONGEST_S = 60.0
DELAY_MAX_US = 5_000_000  # where logind does not say
CALL_S = 5.0
RETRY_S = 5.0


# --- what is told ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Leaving:
    """The machine is about to sleep or to go down, and waits for ``within_s``. It may be told twice."""

    kind: Literal["sleep", "shutdown"]
    within_s: float


@dataclass(frozen=True)
class Back:
    """The machine is awake again, or stays up after all."""


Tell = Callable[[Leaving | Back], Awaitable[None]]


class PowerEvents(Protocol):
    """What this machine says of its own sleep and shutdown."""

    async def run(self, tell: Tell) -> None:
        """Tell until cancelled; return at once where the machine announces nothing.

        The machine waits while ``tell`` handles Leaving. It is cancelled when its time is over, and before the next.
        """


# --- what is decided (pure) --------------------------------------------------------------------


class News(StrEnum):
    """What logind says of the machine."""

    SLEEPS = "sleep"
    GOES_DOWN = "shutdown"
    STAYS = "stays"  # it is awake again, or was not told to leave
    SILENT = "silent"  # logind is not there


class Act(StrEnum):
    HAND_OVER = "hand over"
    RELEASE = "release"
    TAKE = "take"
    TELL_BACK = "tell back"


@dataclass(frozen=True)
class Step:
    """Whether the machine counts as away afterwards, and what is done, in this order."""

    away: bool
    acts: tuple[Act, ...]


SIGNALS: Mapping[tuple[str, bool], News] = {
    ("PrepareForSleep", True): News.SLEEPS,
    ("PrepareForSleep", False): News.STAYS,
    ("PrepareForShutdown", True): News.GOES_DOWN,
    ("PrepareForShutdown", False): News.STAYS,
}

_LEAVE = Step(away=True, acts=(Act.HAND_OVER, Act.RELEASE))
STEPS: Mapping[tuple[bool, News], Step] = {
    (False, News.SLEEPS): _LEAVE,
    (False, News.GOES_DOWN): _LEAVE,
    (False, News.STAYS): Step(away=False, acts=(Act.TAKE,)),
    (False, News.SILENT): Step(away=False, acts=(Act.RELEASE,)),
    # a sleep may turn into a shutdown
    (True, News.SLEEPS): _LEAVE,
    (True, News.GOES_DOWN): _LEAVE,
    (True, News.STAYS): Step(away=False, acts=(Act.TAKE, Act.TELL_BACK)),
    # logind ends on the way down, too
    (True, News.SILENT): Step(away=True, acts=(Act.RELEASE,)),
}


def hand_over_s(delay_max_us: int) -> float:
    """How long handing over may take when the machine waits for ``delay_max_us``."""
    return min(delay_max_us / 1e6 * SHARE, LONGEST_S)


def as_it_stands(properties: Mapping[str, Any]) -> News:
    """The same as the signals say, from logind's properties."""
    if properties.get("PreparingForShutdown"):
        return News.GOES_DOWN
    return News.SLEEPS if properties.get("PreparingForSleep") else News.STAYS


def socket_of(address: str) -> Path | None:
    """The socket a bus address names; None for addresses of another kind."""
    kind, _, path = address.partition("=")
    return Path(unquote(path.partition(",")[0])) if kind == "unix:path" and ";" not in path else None


# --- what is done ------------------------------------------------------------------------------


def power_events(platform: str = sys.platform) -> PowerEvents:
    """This machine's."""
    return Logind() if platform == "linux" else Unannounced()


class Unannounced:
    """A machine that Morgan does not hear leave."""

    async def run(self, _tell: Tell) -> None:
        log.info("sleep and shutdown are not announced here")


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
                    async with _connected(self._address) as bus:
                        await watch.follow(bus)
                except Unavailable as err:
                    watch.note(err.message)
                    if not watch.connected:
                        return
                await asyncio.sleep(self._retry_s)


class _Watch:
    """What outlives a connection: whether the machine counts as away, and who is being told."""

    def __init__(self, tell: Tell, group: asyncio.TaskGroup, retry_s: float) -> None:
        self._tell, self._group, self._retry_s = tell, group, retry_s
        self._telling: asyncio.Task[None] | None = None
        self._locks: dict[str, int] = {}
        self._away = False
        self._delay_max_us = DELAY_MAX_US
        self._noted: str | None = None
        self.connected = False

    async def follow(self, bus: _Bus) -> None:
        """Until the connection is lost: then Unavailable."""
        self.connected = True
        try:
            while True:
                lacking = bool(bus.owner) and not self._away and len(self._locks) < len(LOCKS)
                news = await bus.next(self._retry_s if lacking else None)
                if bus.lost.done():
                    raise Unavailable("The connection to the system bus was lost.")
                if news is None:
                    properties = await bus.properties()
                    self._delay_max_us = properties.get("InhibitDelayMaxUSec", DELAY_MAX_US)
                    news = as_it_stands(properties) if bus.owner else News.SILENT
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

    async def _step(self, bus: _Bus, news: News) -> None:
        step = STEPS[self._away, news]
        self._away = step.away
        if news is News.SILENT:
            self.note("There is no logind.")
        for act in step.acts:
            match act:
                case Act.HAND_OVER:
                    await self._hand_over("sleep" if news is News.SLEEPS else "shutdown")
                case Act.RELEASE:
                    self._release()
                case Act.TAKE:
                    await self._take(bus)
                case Act.TELL_BACK:
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
            await self._tell(news)
        except MorganError as err:
            log.warning("a goodbye failed", extra={"reason": str(err)})

    async def _take(self, bus: _Bus) -> None:
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


class _Bus:
    """logind on a connection. ``owner`` is its name there, empty while it does not run."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._heard: asyncio.Queue[News | None] = asyncio.Queue()
        self.owner = ""
        self.lost = asyncio.ensure_future(bus.wait_for_disconnect())  # type: ignore[no-untyped-call]
        self.lost.add_done_callback(lambda _: self._heard.put_nowait(News.SILENT))

    async def attach(self) -> None:
        self._bus.add_message_handler(self._hear)
        for rule in RULES:
            await self._call(BUS, BUS_PATH, BUS, "AddMatch", "s", rule)
        reply = await self._call(BUS, BUS_PATH, BUS, "GetNameOwner", "s", LOGIND)
        self.owner = "" if _refusal(reply) else reply.body[0]
        self._heard.put_nowait(None)

    async def next(self, timeout_s: float | None) -> News | None:
        """None when it has to be asked how it stands: a logind appeared, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._heard.get()
        except TimeoutError:
            return None

    async def properties(self) -> dict[str, Any]:
        """Empty where there is nobody to ask."""
        if not self.owner:
            return {}
        reply = await self._call(self.owner, LOGIND_PATH, "org.freedesktop.DBus.Properties", "GetAll", "s", MANAGER)
        return {} if _refusal(reply) else {name: value.value for name, value in reply.body[0].items()}

    async def inhibit(self, what: str) -> int | str:
        """The lock's file descriptor, or why there is none."""
        reply = await self._call(
            self.owner, LOGIND_PATH, MANAGER, "Inhibit", "ssss", what, "Morgan", "hand over roles", "delay"
        )
        refusal = _refusal(reply)
        if refusal or not reply.unix_fds:
            return refusal or "logind gave no lock."
        lock: int = reply.unix_fds[reply.body[0]]
        os.set_inheritable(lock, False)  # noqa: FBT003 (it has no name there): a child would hold it on
        return lock

    async def _call(self, to: str, path: str, interface: str, member: str, signature: str, *body: str) -> Message:
        """Raises Unavailable; the connection must end then: a late reply would bring a lock that nobody releases."""
        from dbus_fast import DBusFastError, Message

        if not self._bus.connected:
            raise Unavailable("The connection to the system bus was lost.")
        message = Message(to, path, interface, member, signature=signature, body=list(body))
        try:
            async with asyncio.timeout(CALL_S):
                reply: Message | None = await self._bus.call(message)
        except (OSError, EOFError, DBusFastError) as err:  # TimeoutError is an OSError
            raise Unavailable(f"The system bus does not answer ({type(err).__name__}).") from err
        if reply is None:
            raise Unavailable("The system bus closed the connection.")
        return reply

    def _hear(self, message: Message) -> None:
        """Anybody on the bus can send us a signal: only the bus itself and logind are believed."""
        from dbus_fast import MessageType

        if message.message_type is MessageType.METHOD_RETURN:
            return
        for stray in message.unix_fds:
            os.close(stray)
        if message.message_type is not MessageType.SIGNAL:
            return
        if message.sender == BUS and message.member == "NameOwnerChanged" and message.body[0] == LOGIND:
            if message.body[2] != self.owner:
                self.owner = message.body[2]
                self._heard.put_nowait(News.SILENT)  # what it gave is worth nothing now
                self._heard.put_nowait(None)
        elif message.sender == self.owner and message.interface == MANAGER and message.signature == "b":
            news = SIGNALS.get((message.member or "", message.body[0]))
            if news is not None:
                self._heard.put_nowait(news)


def _refusal(reply: Message) -> str:
    """What the other side says against it; empty when it agreed."""
    from dbus_fast import MessageType

    if reply.message_type is not MessageType.ERROR:
        return ""
    return str(reply.body[0]) if reply.body else str(reply.error_name)


@contextlib.asynccontextmanager
async def _connected(address: str) -> AsyncIterator[_Bus]:
    """Raises Unavailable when nobody answers there."""
    # three megabytes, which a machine without a bus need not carry
    from dbus_fast import DBusFastError
    from dbus_fast.aio import MessageBus

    failures = (OSError, EOFError, DBusFastError)
    try:
        async with asyncio.timeout(CALL_S):
            connection = await MessageBus(address, negotiate_unix_fd=True).connect()
    except failures as err:
        raise Unavailable(f"The system bus does not answer ({type(err).__name__}).") from err
    bus = _Bus(connection)
    try:
        await bus.attach()
        yield bus
    finally:
        connection.disconnect()
        with contextlib.suppress(*failures):
            await bus.lost
