"""What `morgand start` tells while a daemon loads, of values and of a real socket."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

from aiohttp import web

from morgand.api.schema import HealthReply
from morgand.host import startup

READY = {"core": "ready", "db": "ready", "llm": "ready"}
LOADING = {**READY, "llm": "starting"}


def looks(*roles: startup.Roles) -> Iterator[startup.Roles]:
    """These, one after the other; the last for ever."""
    return itertools.chain(roles, itertools.repeat(roles[-1]))


def test_who_starts_it_waits_until_the_model_has_answered() -> None:
    said: list[str] = []
    seen = looks({**LOADING, "vectors": "starting"}, LOADING, LOADING, READY)
    assert startup.until_loaded(lambda: next(seen), said.append) == READY
    assert said == ["Loading llm, vectors ...", "Loading llm ..."]


def test_what_takes_too_long_is_said_to_load() -> None:
    seen = looks(LOADING)
    found = startup.until_loaded(lambda: next(seen), lambda _: None, within_s=0.2)
    ready, loading = startup.summary(found)
    assert ready == "Ready: core, db."
    assert loading.startswith("Still loading: llm.")


def test_what_has_failed_is_not_waited_for() -> None:
    said: list[str] = []
    found = startup.until_loaded(lambda: {**READY, "vectors": "failed"}, said.append)
    assert said == []
    assert startup.summary(found)[1] == "Failed: vectors. `morganctl status` says why."


async def test_a_daemon_that_is_not_there_yet_or_starting_answers_nothing(tmp_path: Path) -> None:
    socket = tmp_path / "s"
    assert startup.health(socket) is None
    assert not startup.answers(None)
    assert not startup.answers(HealthReply(status="starting", roles=LOADING))
    assert startup.answers(HealthReply(status="degraded", roles=LOADING))


async def test_a_starting_daemon_is_heard_although_it_answers_503(tmp_path: Path) -> None:
    async def ready(_: web.Request) -> web.Response:
        return web.json_response({"status": "starting", "roles": LOADING}, status=503)

    app = web.Application()
    app.add_routes([web.get("/health/ready", ready)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "s")).start()
    found = await asyncio.to_thread(startup.health, tmp_path / "s")
    await runner.cleanup()
    assert found == HealthReply(status="starting", roles=LOADING)
