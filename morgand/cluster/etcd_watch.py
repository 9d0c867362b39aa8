"""One watch of etcd, moved to another voter when its own stops answering.

A watch on a frozen or cut-off voter is silent for ever and looks like one without events. So when it has been silent
for a moment, its voter is asked something that needs the quorum.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from morgand.base.errors import Unavailable
from morgand.cluster import etcd_wire as wire
from morgand.cluster.etcd import PATIENCE_S, Endpoint, EtcdClient, LineStream
from morgand.cluster.etcd_wire import Gap, Line, Ranged, Unreached, Watched
from morgand.cluster.store import Changes

Stream = AsyncGenerator[Changes, None]

QUIET_S = 0.7
PAUSE_S = 0.1


async def follow(client: EtcdClient, prefix: str, from_revision: int, closed: asyncio.Event) -> Stream:
    """Changes after a revision. Raises Gap when they are not to be had, Unavailable when no voter answers."""
    loop = asyncio.get_running_loop()
    seen, heard, failed = from_revision, loop.time(), set[str]()
    while not closed.is_set():
        endpoint = _choose(client, failed)
        try:
            async with client.stream(endpoint, "watch", wire.watch(prefix, seen)) as lines:
                while not closed.is_set():
                    watched = await _next(client, endpoint, lines)
                    if watched is None or watched.events:  # a voter without a quorum says "created" all the same
                        heard, failed = loop.time(), set()
                    if watched is not None and watched.created and watched.header.revision < seen:
                        await _check_not_restored(client, prefix, seen)
                    if watched is not None and watched.events:
                        changes = wire.changes(watched)
                        seen = changes.revision
                        yield changes
        except Unreached as err:
            if loop.time() - heard > PATIENCE_S:
                raise Unavailable(f"The cluster store cannot be followed. {err.message}") from err
        failed.add(endpoint.host_id)
        await asyncio.sleep(PAUSE_S)


def _choose(client: EtcdClient, failed: set[str]) -> Endpoint:
    """The first voter that has not failed since one was well; when all have, all are tried again."""
    endpoints = client.ordered()
    found = next((one for one in endpoints if one.host_id not in failed), None)
    if found is None:
        failed.clear()
    return found or endpoints[0]


async def _next(client: EtcdClient, endpoint: Endpoint, lines: LineStream) -> Watched | None:
    """The next answer, or None when there is none and the voter is well. Raises Unreached, Gap."""
    line = await lines.next(QUIET_S)
    if line is None:
        await client.ask(endpoint, "kv/range", {"key": wire.b64("/"), "count_only": True}, Ranged)
        return None
    found = wire.decode(Line, line).result
    if found is None or found.canceled:  # compacted, or more at once than the gateway passes on
        raise Gap(f"The history of the cluster store begins later: {line[:200]!r}.")
    return found


async def _check_not_restored(client: EtcdClient, prefix: str, seen: int) -> None:
    """A voter that is behind catches up; a store that is behind was restored from a copy: its history is another."""
    ranged = await client.call("kv/range", {**wire.span(prefix), "count_only": True}, Ranged)
    if ranged.header.revision < seen:
        raise Gap("The cluster store was restored from a copy.")
