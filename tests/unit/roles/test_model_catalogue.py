"""The model catalogue and its downloads, against a server that misbehaves."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from morgand.base.errors import ConfigError, EngineError, StorageFull, Unavailable
from morgand.roles.downloads import DownloadPatience, download
from morgand.roles.models import available, find_model, load_models, locate
from morgand.state.roles import Model

CONTENT = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
QUICK = DownloadPatience(attempts=3, pause_s=0.001, stall_s=0.3)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def test_the_shipped_catalogue_is_sound_and_its_carried_models_are_here(tmp_path: Path) -> None:
    models = load_models()
    here = available(models, tmp_path)
    assert {"smollm2-135m-instruct", "bge-small-en-v1.5", "ms-marco-minilm-l-12-v2"} <= set(here)
    small = find_model(models, "smollm2-135m-instruct", engine="llama.cpp")
    assert small is not None
    path = locate(small, tmp_path)
    assert path is not None
    assert path.name.endswith(".gguf")
    assert find_model(models, "smollm2-135m-instruct", engine="ollama") is None


def test_all_faults_of_a_catalogue_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    numbers = "size_mb=1\nram_mb=1\nvram_mb=1\ncontext_tokens=1\nprompt_tokens=0\nlicence='x'\n"
    file.write_text(
        f"[models.a]\nroles=['llm']\n{numbers}[models.b]\nroles=['llm']\ngguf='ftp://x'\nsha256='1'\n{numbers}"
        "[models.c]\ncolour='red'\n[models.d]\nroles=['llm']\nfile='p/../../x'\nengines=['onnx']\n" + numbers
    )
    with pytest.raises(ConfigError) as caught:
        load_models(file)
    for words in ("a: it has no source", "b: gguf must be", "b: sha256 must", "c: ", "d: file must be PACKAGE/PATH"):
        assert words in str(caught.value)


@pytest.mark.parametrize("text", ["", "models = 3", "[", "[model.x]\n"])
def test_a_catalogue_without_models_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "models.toml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        load_models(file)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/model.gguf", handler)
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("/model.gguf"))
    finally:
        await server.close()


def model(url: str, sha256: str | None = DIGEST, size_mb: int = 1) -> Model:
    return Model("tiny", "llm", f"gguf:{url}", size_mb, 1, 1, 512, 100, "none", sha256, ("llama.cpp",))


def silent(done: int, total: int) -> None:
    """A progress nobody looks at."""


async def test_a_cut_connection_is_resumed_where_it_ended(tmp_path: Path) -> None:
    asked: list[str | None] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Range"))
        start = int((asked[-1] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        headers = {"Content-Length": str(len(CONTENT) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        await response.write(CONTENT[start : start + 100_000])
        if start + 100_000 < len(CONTENT) and request.transport is not None:
            await asyncio.sleep(0.05)  # let the client read what was sent
            request.transport.close()
        return response

    seen: list[tuple[int, int]] = []
    async with serving(handler) as url:
        path = await download(model(url), tmp_path, lambda done, total: seen.append((done, total)), QUICK)
    assert path.read_bytes() == CONTENT
    assert asked[0] is None
    assert asked[1] is not None
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [one.name for one in tmp_path.iterdir()] == ["tiny.gguf"]


async def test_a_server_that_ignores_ranges_is_read_from_the_start(tmp_path: Path) -> None:
    (tmp_path / "tiny.part").write_bytes(b"old" * 10)

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=CONTENT)

    async with serving(handler) as url:
        path = await download(model(url), tmp_path, silent, QUICK)
    assert path.read_bytes() == CONTENT


async def test_a_server_that_answers_another_range_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "tiny.part").write_bytes(CONTENT[:10])

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=206, body=CONTENT[5:], headers={"Content-Range": "bytes 5-255999/256000"})

    async with serving(handler) as url:
        with pytest.raises(Unavailable, match="another range"):
            await download(model(url), tmp_path, silent, QUICK)
    assert (tmp_path / "tiny.part").read_bytes() == CONTENT[:10]


async def test_a_wrong_digest_is_thrown_away(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"something else")

    async with serving(handler) as url:
        with pytest.raises(EngineError, match="wrong digest"):
            await download(model(url), tmp_path, silent, QUICK)
    assert list(tmp_path.iterdir()) == []


async def test_without_a_digest_the_servers_own_is_checked_and_none_is_refused(tmp_path: Path) -> None:
    tell = {"X-Linked-Etag": f'"{DIGEST}"'}

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=CONTENT, headers=tell)

    async with serving(handler) as url:
        assert (await download(model(url, None), tmp_path / "a", silent, QUICK)).exists()
        tell.clear()
        with pytest.raises(EngineError, match="cannot be verified"):
            await download(model(url, None), tmp_path / "b", silent, QUICK)


async def test_without_a_network_it_gives_up_after_its_attempts(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="could not be fetched"):
        await download(model("http://127.0.0.1:9/model.gguf"), tmp_path, silent, QUICK)


async def test_a_full_disk_is_told_before_the_first_byte(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match="MB free"):
        await download(model("http://127.0.0.1:9/x", size_mb=10**9), tmp_path, silent, QUICK)


async def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    """Whatever is wrong with it, for any account: an error of ours, with a remedy."""
    (tmp_path / "file").touch()
    (tmp_path / "taken/tiny.part").mkdir(parents=True)

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(body=CONTENT)

    async with serving(handler) as url:
        for folder in (tmp_path / "file/models", tmp_path / "taken", tmp_path / ("x" * 300)):
            with pytest.raises(StorageFull, match=r"set catalog\.models_dir"):
                await download(model(url), folder, silent, QUICK)


def test_what_cannot_be_looked_at_is_not_here(tmp_path: Path) -> None:
    """Neither at the start of the daemon nor later is that the end of it."""
    assert available(load_models(), tmp_path / ("x" * 300)) == available(load_models(), tmp_path)
