"""Models that are worth having come by themselves, from a real server, as soon as it is known what is worth having."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from morgand.base.clock import SystemClock
from morgand.base.errors import EngineError, StorageFull, Unavailable
from morgand.cluster import codec, keys
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.snapshot import Inputs
from morgand.cluster.store import Put
from morgand.host.wanted_models import (
    LONGEST_S,
    LOOK_EVERY_S,
    RETRY_S,
    SPOILED_S,
    Again,
    WantedModels,
    after_failure,
    next_step,
    wanted_models,
)
from morgand.roles.catalog import SPECS
from morgand.roles.downloads import DownloadPatience
from morgand.roles.models import available, load_models
from morgand.state.roles import Model
from tests.fakes.clusters import CARRIED, host, profile, snapshot

SOON_S = 60.0
CONTENT = bytes(range(256)) * 1000
ENTRY = """
[models."{name}"]
roles = ["llm"]
gguf = "{url}/{name}.gguf"
size_mb = {size}
ram_mb = 500
vram_mb = 500
context_tokens = 4096
prompt_tokens = 900
licence = "x"
sha256 = "{digest}"
"""


def named(name: str) -> Model:
    return Model(name, "llm", f"gguf:https://x/{name}", 1, 1, 1, 1, 1, "x")


def test_what_is_worth_fetching_is_what_would_run() -> None:
    assert [one.name for one in wanted_models(snapshot(host("a")), "a")] == ["qwen3-4b"]
    assert wanted_models(snapshot(host("a")), "somebody else") == ()
    assert wanted_models(snapshot(host("a", models=[*CARRIED, "qwen3-4b"])), "a") == ()


def test_one_model_is_tried_after_the_other_and_a_failed_one_later() -> None:
    a, b = named("a"), named("b")
    assert next_step((), {}, 0.0) == LOOK_EVERY_S
    assert next_step((a, b), {}, 0.0) is a
    assert next_step((a, b), {"a": Again(5.0)}, 0.0) is b
    assert next_step((a, b), {"a": Again(5.0), "b": Again(9.0)}, 0.0) == 5.0
    assert next_step((a, b), {"a": Again(5.0), "b": Again(9.0)}, 5.0) is a


def test_what_fails_again_is_tried_ever_later() -> None:
    """Without a network nobody is told; what somebody can mend is."""
    later, waits = None, []
    for _ in range(12):
        later = after_failure(later, Unavailable("no network"), 0.0)
        waits.append(later.at_s)
        assert later.fault is None
    assert waits[:3] == [RETRY_S, RETRY_S * 2, RETRY_S * 4]
    assert waits[-1] == LONGEST_S
    assert after_failure(None, StorageFull("full"), 0.0) == Again(RETRY_S, 1, "full")
    assert after_failure(None, EngineError("a wrong digest"), 0.0) == Again(SPOILED_S, 1, "a wrong digest")


@dataclass
class World:
    """One host with its store, a catalogue of two models, and the server that has them."""

    store: LocalStore
    mirror: Mirror
    models: tuple[Model, ...]
    folder: Path
    asked: list[str] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)  # what is being sent goes on
    wanted: WantedModels = field(init=False)

    async def put(self, key: str, value: bytes) -> None:
        await self.mirror.until(await self.store.txn([], [Put(key, value)]))

    async def tell_profile(self) -> None:
        """What the host does at its start, and when a model has come."""
        here = (*CARRIED, *available(self.models, self.folder))
        await self.put(keys.profile("a"), codec.encode(profile(models=here)))

    async def set(self, key: str, value: str) -> None:
        await self.put(keys.config(key), msgspec.json.encode(value))


@asynccontextmanager
async def world(tmp_path: Path, folder: Path | None = None) -> AsyncIterator[World]:
    """``large`` would be chosen, ``small`` only by name."""

    async def send(request: web.Request) -> web.StreamResponse:
        one.asked.append(request.match_info["name"])
        response = web.StreamResponse(headers={"Content-Length": str(len(CONTENT))})
        await response.prepare(request)
        await response.write(CONTENT[:1000])
        await one.go_on.wait()
        await response.write(CONTENT[1000:])
        return response

    app = web.Application()
    app.add_routes([web.get("/{name}.gguf", send)])
    async with TestServer(app, host="127.0.0.1") as server:
        file, url, digest = (
            tmp_path / "c.toml",
            str(server.make_url("")).rstrip("/"),
            hashlib.sha256(CONTENT).hexdigest(),
        )
        file.write_text("".join(ENTRY.format(name=name, url=url, size=size, digest=digest)
                                for name, size in (("large", 500), ("small", 300))))  # fmt: skip
        store = await LocalStore.open(tmp_path)
        mirror, models = Mirror(store, SystemClock()), load_models(file)
        one = World(store, mirror, models, folder or tmp_path / "models")
        one.go_on.set()
        inputs = Inputs(SPECS, models, {})
        one.wanted = WantedModels(
            "a", one.folder, mirror=mirror, inputs=lambda: inputs, allowed=lambda: True, fetched=one.tell_profile,
            clock=SystemClock(), patience=DownloadPatience(attempts=1),
        )  # fmt: skip
        await mirror.load()
        tasks = [asyncio.create_task(mirror.run()), asyncio.create_task(one.wanted.run())]
        try:
            await asyncio.sleep(0)  # it has looked, and knows of no host
            await one.put(keys.host("a"), codec.encode(codec.HostRecord("a", "a", "192.0.2.1")))
            yield one
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await store.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_fresh_host_fetches_as_soon_as_it_is_known_what_it_has(tmp_path: Path) -> None:
    """Not an hour later: nothing is known of a host when it begins."""
    async with world(tmp_path) as one:
        await one.tell_profile()
        await until((one.folder / "large.gguf").exists)
        await until(lambda: one.wanted.notes() == [])
    assert one.asked == ["large"]
    assert (tmp_path / "models/large.gguf").read_bytes() == CONTENT


async def test_who_chooses_another_model_need_not_wait(tmp_path: Path) -> None:
    """Neither for the next look nor for the end of a download that nobody needs any more."""
    async with world(tmp_path) as one:
        one.go_on.clear()
        await one.tell_profile()
        await until(lambda: "large" in " ".join(one.wanted.notes()))
        await one.set("llm.model", "small")
        await until(lambda: "small" in " ".join(one.wanted.notes()))
        one.go_on.set()
        await until((one.folder / "small.gguf").exists)
        assert not (one.folder / "large.gguf").exists()
        await one.set("llm.model", "large")
        await until((one.folder / "large.gguf").exists)
    assert one.asked == ["large", "small", "large"]


async def test_a_folder_that_cannot_be_used_is_told_and_what_is_chosen_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with world(tmp_path, tmp_path / "file/models") as one:
        await one.tell_profile()
        await until(lambda: bool(one.wanted.notes()))
        (told,) = one.wanted.notes()
        assert told.startswith(f"The model large is not fetched: {tmp_path / 'file/models'} cannot be used for models:")
        assert "catalog.models_dir" in told
        (tmp_path / "file").unlink()
        await one.set("llm.model", "small")
        await until((one.folder / "small.gguf").exists)
        await until(lambda: one.wanted.notes() == [])


async def test_it_begins_anew_after_it_was_cancelled_half_way(tmp_path: Path) -> None:
    async with world(tmp_path) as one:
        one.go_on.clear()
        await one.tell_profile()
        await until(lambda: bool(one.wanted.notes()))
        for task in asyncio.all_tasks():
            if task.get_coro().__qualname__ == "WantedModels.run":  # type: ignore[union-attr]
                task.cancel()
        await until(lambda: one.wanted.notes() == [])
        one.go_on.set()
        again = asyncio.create_task(one.wanted.run())
        await until((one.folder / "large.gguf").exists)
        again.cancel()
        with pytest.raises(asyncio.CancelledError):
            await again
