"""logind on the system bus: its signals as news, its locks as file descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from morgand.base.errors import Unavailable
from morgand.host.power.steps import PowerNews

if TYPE_CHECKING:
    from dbus_fast import Message
    from dbus_fast.aio import MessageBus

BUS, BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
LOGIND, LOGIND_PATH = "org.freedesktop.login1", "/org/freedesktop/login1"
MANAGER = "org.freedesktop.login1.Manager"
RULES = (
    f"type='signal',sender='{BUS}',member='NameOwnerChanged',arg0='{LOGIND}'",
    f"type='signal',sender='{LOGIND}',interface='{MANAGER}',member='PrepareForSleep'",
    f"type='signal',sender='{LOGIND}',interface='{MANAGER}',member='PrepareForShutdown'",
)

CALL_S = 5.0

SIGNALS: Mapping[tuple[str, bool], PowerNews] = {
    ("PrepareForSleep", True): PowerNews.SLEEPS,
    ("PrepareForSleep", False): PowerNews.STAYS,
    ("PrepareForShutdown", True): PowerNews.GOES_DOWN,
    ("PrepareForShutdown", False): PowerNews.STAYS,
}


def as_it_stands(properties: Mapping[str, Any]) -> PowerNews:
    """The same as the signals say, from logind's properties."""
    if properties.get("PreparingForShutdown"):
        return PowerNews.GOES_DOWN
    return PowerNews.SLEEPS if properties.get("PreparingForSleep") else PowerNews.STAYS


def socket_of(address: str) -> Path | None:
    """The socket a bus address names; None for addresses of another kind."""
    kind, _, path = address.partition("=")
    return Path(unquote(path.partition(",")[0])) if kind == "unix:path" and ";" not in path else None


class Bus:
    """logind on a connection. ``owner`` is its name there, empty while it does not run."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._heard: asyncio.Queue[PowerNews | None] = asyncio.Queue()
        self.owner = ""
        self.lost = asyncio.ensure_future(bus.wait_for_disconnect())  # type: ignore[no-untyped-call]
        self.lost.add_done_callback(lambda _: self._heard.put_nowait(PowerNews.SILENT))

    async def attach(self) -> None:
        self._bus.add_message_handler(self._hear)
        for rule in RULES:
            await self._call(BUS, BUS_PATH, BUS, "AddMatch", "s", rule)
        reply = await self._call(BUS, BUS_PATH, BUS, "GetNameOwner", "s", LOGIND)
        self.owner = "" if _refusal(reply, "s") else reply.body[0]
        self._heard.put_nowait(None)

    async def next(self, timeout_s: float | None) -> PowerNews | None:
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
        return {} if _refusal(reply, "a{sv}") else {name: value.value for name, value in reply.body[0].items()}

    async def inhibit(self, what: str) -> int | str:
        """The lock's file descriptor, or why there is none."""
        reply = await self._call(
            self.owner, LOGIND_PATH, MANAGER, "Inhibit", "ssss", what, "Morgan", "hand over roles", "delay"
        )
        refusal = _refusal(reply, "h")
        if refusal or len(reply.unix_fds) <= reply.body[0]:
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
        if message.sender == BUS and message.signature == "sss" and message.body[0] == LOGIND:
            if message.body[2] != self.owner:
                self.owner = message.body[2]
                self._heard.put_nowait(PowerNews.SILENT)  # what it gave is worth nothing now
                self._heard.put_nowait(None)
        elif message.sender == self.owner and message.interface == MANAGER and message.signature == "b":
            news = SIGNALS.get((message.member or "", message.body[0]))
            if news is not None:
                self._heard.put_nowait(news)


def _refusal(reply: Message, expected: str) -> str:
    """What the other side says against it, or that its answer is not of the type expected; empty when it agreed."""
    from dbus_fast import MessageType

    if reply.message_type is not MessageType.ERROR:
        return "" if reply.signature == expected else f"The answer is of type '{reply.signature}'."
    return str(reply.body[0]) if reply.body else str(reply.error_name)


@contextlib.asynccontextmanager
async def connected(address: str) -> AsyncIterator[Bus]:
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
    bus = Bus(connection)
    try:
        await bus.attach()
        yield bus
    finally:
        connection.disconnect()
        with contextlib.suppress(*failures):
            await bus.lost
