"""Whom to ask: the engine on this host when it holds the role, else the hosts that do, one after the other.

``candidates`` is the decision (values in, values out); ``routed`` makes a port of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from morgand.base import staleness
from morgand.base.aio import wait_within
from morgand.base.clock import Clock
from morgand.base.errors import Fenced, InvalidInput, MorganError, NotHereNow, Overloaded, Unavailable
from morgand.peers import wire
from morgand.peers.client import NotReached, PeerClient
from morgand.peers.wire import Signature

T = TypeVar("T")

FIRST_PARTS = ("main", "primary")
# not the same when done twice (a delete that finds nothing): not repeated once it may have been done
ONCE = frozenset({"delete", "delete_conversation"})
ONCE_BEFORE = ONCE | {"add_feedback"}  # without an id of the caller's, which an older host does not know
NOTHING_DONE = (Fenced, NotReached, Overloaded)
LOOK_AGAIN_S = 0.25
LOOK_AGAIN_LIMIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Holder:
    """A host that is assigned a part of a role. ``ready`` is what it last said of itself."""

    host: str
    part: str
    epoch: int
    ready: bool


class Acting(Protocol):
    """What this host may do for roles it holds."""

    def term(self, role: str) -> int | None:
        """Which term it acts in for a role that only one host may act for: its epoch; None when it may not act now.

        0 for every other role.
        """
        ...

    def next(self) -> asyncio.Event:
        """Set when something has changed since this call."""
        ...


class Directory(Acting, Protocol):
    """Who holds what, as far as this host knows."""

    @property
    def me(self) -> str: ...

    def holders(self, role: str) -> Sequence[Holder]: ...

    @property
    def alone(self) -> bool:
        """There is no other host: waiting for one is in vain."""
        ...

    @property
    def cut_off(self) -> bool:
        """Whether this host is without a lease: of what is decided meanwhile it hears nothing."""
        ...


@dataclass(frozen=True, slots=True)
class PortRoute:
    """How a port of a role is reached. ``patience_s``: how long to wait for a role that is moving.

    ``single_writer``: only the role's first part answers; ``spread``: of several hosts the idlest is asked first.
    """

    role: str
    port: str
    directory: Directory
    client: Callable[[], PeerClient | None]
    clock: Clock
    patience_s: float
    single_writer: bool
    spread: bool = False


def candidates(
    holders: Iterable[Holder], me: str, *, single_writer: bool, spread: bool, busy: Mapping[str, int],
    suspects: frozenset[str] = frozenset(),
) -> list[Holder]:  # fmt: skip
    """Ready holders in the order to ask them: those not suspect, this host, the idlest, the first part."""
    able = [one for one in holders if one.ready and (not single_writer or one.part in FIRST_PARTS)]
    return sorted(
        able,
        key=lambda one: (
            one.host in suspects,
            busy.get(one.host, 0) if spread else 0,
            one.host != me,
            one.part not in FIRST_PARTS,
            one.host,
        ),
    )


def routed(protocol: type[T], route: PortRoute, local: T) -> T:
    """An object that implements the port ``protocol`` wherever its role is held.

    Calls are repeated at the next candidate while nothing of an answer has been given out. Writes of History and
    Library carry ids made by the caller, so that doing them twice is doing them once; what is not so is in ``ONCE``.
    """
    return cast("T", _Routed(protocol, route, local))


class _Routed:
    def __init__(self, protocol: type, route: PortRoute, local: Any) -> None:
        self._protocol = protocol
        self._route = route
        self._local = local
        self._busy: dict[str, int] = {}

    def __getattr__(self, method: str) -> Callable[..., Any]:
        signature = wire.signature_of(self._protocol, method)
        do: Callable[..., Any]
        if signature.streamed:

            def do(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
                return self._stream(signature, args, kwargs)
        else:

            async def do(*args: Any, **kwargs: Any) -> Any:
                return await self._call(signature, args, kwargs)

        self.__dict__[method] = do  # found directly from the second time on
        return do

    async def _call(self, signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rounds = Rounds(self._route, self._busy)
        before = wire.as_before(signature, args, kwargs)
        while True:
            holder = await rounds.next()
            with counted(self._busy, holder.host):
                once = ONCE_BEFORE if before is None else ONCE
                try:
                    try:
                        return await self._ask(holder, signature, args, kwargs)
                    except InvalidInput:  # nothing was done; an older host may not know an argument
                        if before is None or holder.host == self._route.directory.me:
                            raise
                        once = ONCE_BEFORE
                        return await self._ask(holder, signature, (), before)
                except NotHereNow as err:
                    if signature.method in once and not isinstance(err, NOTHING_DONE):
                        raise
                    rounds.failed(err)

    async def _ask(self, holder: Holder, signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if holder.host == self._route.directory.me:
            return await acting(
                self._route.role, self._route.directory, lambda: getattr(self._local, signature.method)(*args, **kwargs)
            )
        body = wire.pack_arguments(signature, args, kwargs)
        return await client_of(self._route).call(holder.host, self._route.port, signature, body, epoch=holder.epoch)

    async def _stream(self, signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        """Repeated at the next candidate only while nothing has been given out."""
        rounds = Rounds(self._route, self._busy)
        while True:
            holder = await rounds.next()
            begun = False
            with counted(self._busy, holder.host):
                try:
                    async with aclosing(self._open(holder, signature, args, kwargs)) as items:
                        async for item in items:
                            begun = True
                            yield item
                        return
                except NotHereNow as err:
                    if begun:
                        raise
                    rounds.failed(err)

    def _open(
        self, holder: Holder, signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        if holder.host == self._route.directory.me:
            return cast("AsyncGenerator[Any, None]", getattr(self._local, signature.method)(*args, **kwargs))
        body = wire.pack_arguments(signature, args, kwargs)
        client = client_of(self._route)
        found = client.stream(holder.host, self._route.port, signature, body, epoch=holder.epoch)
        return cast("AsyncGenerator[Any, None]", found)


async def acting(role: str, directory: Acting, work: Callable[[], Awaitable[T]]) -> T:
    """The result of work for a role that this host holds, if it may act for it before and after, in one term.

    Raises Unavailable otherwise: what was done meanwhile is not acknowledged, and is repeated where the role is now.
    """
    term = directory.term(role)
    found = await work() if term is not None else None
    if term is None or directory.term(role) != term:
        raise Unavailable(f"Another host may hold {role} by now.", retry_after_s=0.5)
    return cast("T", found)


class Rounds:
    """The holders to try for one call: each once, then again at growing intervals for as long as patience lasts.

    When all of a round are overloaded there is no second one: it would only lengthen the queues.
    """

    def __init__(self, route: PortRoute, busy: Mapping[str, int]) -> None:
        self._route = route
        self._busy = busy
        self._left: list[Holder] = []
        self._first = True
        self._reason: MorganError | None = None
        self._round: list[MorganError] = []
        self._pause_s = LOOK_AGAIN_S
        self._deadline = route.clock.monotonic() + route.patience_s

    def failed(self, reason: MorganError) -> None:
        self._reason = reason
        self._round.append(reason)

    async def next(self) -> Holder:
        """The next one to ask. Raises the last failure, or Unavailable when nobody holds the role."""
        directory = self._route.directory
        while not self._left:
            if directory.alone:
                return self._alone()
            if self._round and all(isinstance(one, Overloaded) for one in self._round):
                raise self._round[-1]
            changed = directory.next()
            if not self._first:
                await self._wait(changed)
            self._first = False
            self._round = []
            self._left = self._candidates()
        return self._left.pop(0)

    def _alone(self) -> Holder:
        """The engine here, whatever is said of it: it knows best what is wrong."""
        if self._reason is not None:
            raise self._reason
        return Holder(self._route.directory.me, "", 0, ready=True)

    def _candidates(self) -> list[Holder]:
        client = self._route.client()
        holders = self._route.directory.holders(self._route.role)
        suspects = frozenset(one.host for one in holders if client is not None and client.suspect(one.host))
        return candidates(
            holders, self._route.directory.me, single_writer=self._route.single_writer, spread=self._route.spread,
            busy=self._busy, suspects=suspects,
        )  # fmt: skip

    async def _wait(self, changed: asyncio.Event) -> None:
        left_s = self._deadline - self._route.clock.monotonic()
        in_vain = staleness.current() is not None and self._route.directory.cut_off  # what may be stale is had sooner
        if left_s <= 0 or in_vain:
            raise self._reason or Unavailable(
                f"No host performs {self._route.role} right now.", remedy="See `morganctl roles explain`."
            )
        await wait_within(changed, min(self._pause_s, left_s))
        if self._round:
            self._pause_s = min(2 * self._pause_s, LOOK_AGAIN_LIMIT_S)


def client_of(route: PortRoute) -> PeerClient:
    """Raises Unavailable while this host is not connected to others."""
    client = route.client()
    if client is None:
        raise Unavailable("This host is not connected to the others.")
    return client


@contextlib.contextmanager
def counted(busy: dict[str, int], host: str) -> Iterator[None]:
    """Calls under way per host: what spreads them."""
    busy[host] = busy.get(host, 0) + 1
    try:
        yield
    finally:
        busy[host] -= 1
