"""Finding a cluster on the local network by multicast DNS (RFC 6762, RFC 6763), with the ``zeroconf`` package.

What is found is an address to try and nothing more: anybody can answer. A network that drops multicast finds nothing,
which costs a person the typing of an address.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from zeroconf import Error, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

SERVICE = "_morgan._tcp.local."
RESOLVE_MS = 1000
MAX_FOUND = 50
# of the network, of names in use or too long, of an interface that is gone: what multicast is worth is done without
FAULTS = (OSError, RuntimeError, ValueError, Error)

log = logging.getLogger("morgand.gossip")


@dataclass(frozen=True, slots=True)
class DiscoveredHost:
    """A host that says it is of a cluster; ``port`` is that of its API for hosts."""

    cluster: str
    name: str
    address: str
    port: int


@contextlib.asynccontextmanager
async def advertised(cluster: str, name: str, host: str, address: str, port: int) -> AsyncIterator[None]:
    """Be found while this lasts, on the interface of ``address`` alone. Without multicast nothing happens."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            info = AsyncServiceInfo(
                SERVICE, f"{host}.{SERVICE}", addresses=[ipaddress.ip_address(address).packed], port=port,
                properties={"cluster": cluster, "name": name}, server=f"{host}.local.",
            )  # fmt: skip
            zeroconf = AsyncZeroconf(interfaces=[address])
            stack.push_async_callback(_close, zeroconf)
            await (await zeroconf.async_register_service(info, allow_name_change=False))
        except FAULTS as err:
            log.info("this host cannot be found by multicast", extra={"reason": str(err) or type(err).__name__})
        yield


async def find(timeout_s: float) -> list[DiscoveredHost]:
    """Hosts that answer within the time."""
    found: dict[str, DiscoveredHost] = {}
    names: asyncio.Queue[str] = asyncio.Queue(maxsize=MAX_FOUND)

    def heard(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        del zeroconf, service_type
        if state_change is ServiceStateChange.Added and not names.full():
            names.put_nowait(name)

    try:
        zeroconf = AsyncZeroconf()
    except FAULTS:
        return []
    browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[heard])
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while True:
                    name = await names.get()
                    one = await _resolve(zeroconf, name)
                    if one is not None:
                        found[name] = one
    finally:
        with contextlib.suppress(*FAULTS):
            await browser.async_cancel()
        await _close(zeroconf)
    return list(found.values())


async def _close(zeroconf: AsyncZeroconf) -> None:
    with contextlib.suppress(*FAULTS):
        await zeroconf.async_close()


async def _resolve(zeroconf: AsyncZeroconf, name: str) -> DiscoveredHost | None:
    """None for who does not answer, or with something that is no answer."""
    try:
        info = AsyncServiceInfo(SERVICE, name)
        if not await info.async_request(zeroconf.zeroconf, RESOLVE_MS) or info.port is None:
            return None
    except FAULTS:
        return None
    addresses = info.parsed_addresses()
    said = {
        key.decode(errors="replace"): (value or b"").decode(errors="replace") for key, value in info.properties.items()
    }
    return DiscoveredHost(said.get("cluster", ""), said.get("name", ""), addresses[0], info.port) if addresses else None
