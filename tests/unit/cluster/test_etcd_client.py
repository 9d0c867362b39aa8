"""The client of etcd and voters that have too much to do: real HTTP on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

from aiohttp import web

from morgand.base.errors import Unavailable
from morgand.cluster import etcd_wire as wire
from morgand.cluster.etcd import Endpoint, EtcdClient

COST_S, BYTES_A_SECOND = 0.2, 700_000


class BusyVoter:
    """Does one thing after the other, each in COST_S and what its length takes, also what nobody waits for any more."""

    def __init__(self, name: str) -> None:
        self.name, self.asked = name, 0
        self._working = asyncio.Lock()
        self._runner: web.AppRunner | None = None

    async def start(self) -> Endpoint:
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/v3/kv/range", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return Endpoint(f"http://127.0.0.1:{self._runner.addresses[0][1]}", self.name)

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        content = await request.read()
        async with self._working:
            await asyncio.sleep(COST_S + len(content) / BYTES_A_SECOND)
        return web.json_response({"header": {"revision": "7"}})


@contextlib.asynccontextmanager
async def voters(count: int) -> AsyncIterator[tuple[EtcdClient, list[BusyVoter]]]:
    made = [BusyVoter(f"v{number}") for number in range(count)]
    endpoints = [await one.start() for one in made]
    client = EtcdClient(lambda: endpoints, None, name="test")
    try:
        yield client, made
    finally:
        await client.close()
        for one in made:
            await one.stop()


async def test_voters_that_are_slow_are_not_asked_ever_more() -> None:
    """Three callers at once wait longer than the shortest deadline: given up and asked again each time, they would fill
    the voters with what nobody waits for, and get no answer for as long as they go on."""
    answered = 0

    async def calling(client: EtcdClient) -> None:
        nonlocal answered
        while True:
            with contextlib.suppress(Unavailable):
                assert (await client.call("kv/range", {}, wire.Ranged)).header.revision == 7
                answered += 1

    async with voters(3) as (client, made):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(6):
                await asyncio.gather(*(calling(client) for _ in itertools.repeat(None, 3)))
        asked = sum(one.asked for one in made)
    assert answered > 15  # one voter alone could have answered 30 times
    assert asked < 5 * answered


async def test_a_long_request_is_given_time_for_its_length() -> None:
    """Else it would be given up and sent again until the caller gives up, by each of whom the voter reads it."""
    async with voters(1) as (client, [voter]):
        assert (await client.call("kv/range", {"long": "x" * 2_000_000}, wire.Ranged)).header.revision == 7
        assert voter.asked == 1
