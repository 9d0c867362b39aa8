"""Reads from a copy of the database while nobody serves the database itself.

The primary is always asked first, within a bounded wait. A copy is asked nothing but what ``READS`` names, in no epoch,
and only where the answer can say that it may be stale (``freshness``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from morgand.base import staleness
from morgand.base.errors import InvalidInput, MorganError, NotHereNow, Overloaded, StorageFull, Unavailable
from morgand.base.staleness import Reading
from morgand.peers import wire
from morgand.peers.route import Directory, PortRoute, client_of, routed
from morgand.peers.wire import Signature
from morgand.state.ports import History, Library

T = TypeVar("T")

READS: Mapping[type, frozenset[str]] = {
    History: frozenset(
        {"turn", "messages", "since_summary", "conversation", "conversations", "latest_conversation"}
    ),
    Library: frozenset(
        {"document", "documents", "states", "chunks", "chunks_by_id", "fine_of", "keyword_search",
         "versions"}
    ),
}  # fmt: skip
PATIENCE_S = 2.0  # for a primary that is moving: a takeover takes less
COPY_S = 3.0  # until a copy has answered; it is asked for what is quickly found


@dataclass(frozen=True, slots=True)
class Copies:
    """The copies of a port's data: the one on this host, and the name under which others are asked for theirs."""

    port: str
    here: Any
    readable: Callable[[], bool]  # whether the copy on this host can be read now
    directory: Directory


def export_name(port: str) -> str:
    """Under which name hosts ask each other for a copy."""
    return f"{port}-copy"


def with_copies(protocol: type[T], route: PortRoute, local: T, copies: Copies) -> T:
    """The port ``protocol``, routed, with copies for reads that may be stale."""
    return cast("T", _WithCopies(protocol, route, local, copies))


class _WithCopies:
    def __init__(self, protocol: type, route: PortRoute, local: Any, copies: Copies) -> None:
        self._protocol, self._route, self._copies = protocol, route, copies
        self._patient: Any = routed(protocol, route, local)
        self._hasty: Any = routed(protocol, replace(route, patience_s=PATIENCE_S), local)

    def __getattr__(self, method: str) -> Callable[..., Any]:
        patient: Callable[..., Any] = getattr(self._patient, method)
        if method not in READS[self._protocol]:
            return patient

        async def do(*args: Any, **kwargs: Any) -> Any:
            allowed = staleness.current()
            if allowed is None or self._copies.directory.alone:
                return await patient(*args, **kwargs)
            return await self._read(allowed, method, args, kwargs)

        self.__dict__[method] = do
        return do

    async def _read(self, allowed: Reading, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An answer that began with a copy goes on with copies: it is of one piece, and waits once."""
        reason: MorganError = Unavailable("No host performs db right now.", remedy="See `morganctl status`.")
        if not allowed.stale and not self._in_vain():
            try:
                return await getattr(self._hasty, method)(*args, **kwargs)
            except (Overloaded, StorageFull):
                raise  # it is there, and says what is wrong
            except NotHereNow as err:
                reason = err
        try:
            async with asyncio.timeout(COPY_S):
                found = await self._from_copies(wire.signature_of(self._protocol, method), args, kwargs)
        except (NotHereNow, TimeoutError):
            if self._copies.directory.cut_off:
                raise reason from None  # nobody can bring the primary back while this host waits
            return await getattr(self._patient, method)(*args, **kwargs)
        allowed.stale = True
        return found

    def _in_vain(self) -> bool:
        """Whether the primary failed a moment ago, and nothing that this host hears of can have changed that."""
        client = self._route.client()
        holders = [one.host for one in self._copies.directory.holders(self._route.role) if one.part == "primary"]
        failed = client is not None and all(client.suspect(host) for host in holders)
        return self._copies.directory.cut_off and failed

    async def _from_copies(self, signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The copy on this host first. Raises Unavailable where there is none."""
        if self._copies.readable():
            with contextlib.suppress(NotHereNow):
                return await getattr(self._copies.here, signature.method)(*args, **kwargs)
        body = wire.pack_arguments(signature, args, kwargs)
        for host in self._others():
            with contextlib.suppress(NotHereNow, InvalidInput):  # an older host knows of no copies
                return await client_of(self._route).call(host, self._copies.port, signature, body, epoch=0)
        raise Unavailable("No host has a copy of the database that can be read.")

    def _others(self) -> Sequence[str]:
        """Hosts that may have a copy: those that did not just fail first."""
        client = self._route.client()
        hosts = {one.host for one in self._copies.directory.holders(self._route.role)}
        hosts.discard(self._copies.directory.me)
        return sorted(hosts, key=lambda host: (client is not None and client.suspect(host), host))
