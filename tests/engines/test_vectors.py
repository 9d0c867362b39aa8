"""The vector index as the real program: searched, killed, damaged."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from morgand.base.errors import EngineError, InvalidInput
from morgand.roles.process import EngineClient
from morgand.roles.vectors.client import EngineVectors
from morgand.state.assistant import Level
from morgand.state.ports import VectorPoint

pytestmark = pytest.mark.engine
SIZE = 8


@asynccontextmanager
async def running(folder: Path, size: int = SIZE) -> AsyncIterator[tuple[EngineVectors, subprocess.Popen[bytes]]]:
    with tempfile.TemporaryDirectory(prefix="v-") as sockets:
        socket = Path(sockets) / "v.sock"
        argv = [sys.executable, "-m", "morgand.roles.vectors.engine", "--socket", str(socket)]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(json.dumps({"dir": str(folder), "size": size}).encode() + b"\n")
        process.stdin.flush()
        client = EngineClient(socket, "vectors")
        try:
            async with asyncio.timeout(120):
                while not await client.healthy():
                    assert process.poll() is None
                    await asyncio.sleep(0.05)
            yield EngineVectors(client), process
        finally:
            await client.close()
            process.terminate()
            process.communicate()


def unit(seed: int, size: int = SIZE) -> bytes:
    numbers = np.random.default_rng(seed).standard_normal(size)
    return (numbers / np.linalg.norm(numbers)).astype("<f4").tobytes()


def document(texts: list[str], *, embedded: bool = True, size: int = SIZE) -> list[VectorPoint]:
    """One coarse chunk over a medium and a fine one for each text."""
    doc, coarse = str(uuid4()), str(uuid4())
    points = [
        VectorPoint(coarse, doc, Level.COARSE, coarse, None, " ".join(texts), unit(99, size) if embedded else None)
    ]
    for seed, text in enumerate(texts):
        medium, vector = str(uuid4()), unit(seed, size) if embedded else None
        points.append(VectorPoint(medium, doc, Level.MEDIUM, coarse, medium, text, vector))
        points.append(VectorPoint(str(uuid4()), doc, Level.FINE, coarse, medium, text, vector))
    return points


async def test_search_levels_and_legs(tmp_path: Path) -> None:
    """Words and meaning are searched at each level, hits name their parents, and no embedding means no dense leg."""
    points = document(["The boiler's pressure", "Radiators are bled in autumn"])
    async with running(tmp_path) as (vectors, _):
        await vectors.upsert(points)
        legs = await vectors.search("bleeding a radiator", unit(0), limit=5)
        assert legs.keyword[Level.FINE][0].medium == points[3].chunk
        assert legs.keyword[Level.COARSE][0].chunk == points[0].chunk
        nearest = legs.dense[Level.MEDIUM][0]
        assert (nearest.chunk, nearest.document, nearest.coarse) == (
            points[1].chunk,
            points[1].document,
            points[0].chunk,
        )
        assert nearest.score == pytest.approx(1.0, abs=1e-5)
        alone = await vectors.search("boiler", None, limit=5)
        assert not any(alone.dense.values())
        assert not any((await vectors.search("", None, limit=5)).keyword.values())


async def test_delete_and_replace(tmp_path: Path) -> None:
    """A point written twice counts once; a deleted document is gone at every level."""
    one, two = document(["alpha"]), document(["beta"], embedded=False)
    async with running(tmp_path) as (vectors, _):
        await vectors.upsert(one + two)
        await vectors.upsert(one)
        assert await vectors.counts() == {one[0].document: 3, two[0].document: 3}
        await vectors.delete_documents([one[0].document, str(uuid4())])
        assert await vectors.counts() == {two[0].document: 3}
        assert not any((await vectors.search("alpha", unit(0), limit=5)).keyword.values())


async def test_killed(tmp_path: Path) -> None:
    """What was acknowledged before kill -9 is there afterwards, in the middle of more writes."""
    kept = document([f"kept {number}" for number in range(200)])
    async with running(tmp_path) as (vectors, process):
        await vectors.upsert(kept)
        more = asyncio.create_task(vectors.upsert(document([f"more {number}" for number in range(3000)])))
        await asyncio.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(EngineError):
            await more
    async with running(tmp_path) as (vectors, _):
        assert (await vectors.counts())[kept[0].document] == len(kept)
        assert (await vectors.info()).set_aside == []


async def test_damaged(tmp_path: Path) -> None:
    """A damaged shard is set aside and begun anew; the other levels keep what they have."""
    points = document(["alpha"])
    async with running(tmp_path) as (vectors, _):
        await vectors.upsert(points)
    (tmp_path / "fine" / "edge_config.json").write_text("not json")
    async with running(tmp_path) as (vectors, _):
        assert await vectors.counts() == {points[0].document: 2}
        (aside,) = (await vectors.info()).set_aside
        assert Path(aside).is_dir()
        await vectors.upsert(points)
        assert await vectors.counts() == {points[0].document: 3}


async def test_other_size(tmp_path: Path) -> None:
    """An index made for another embedder is set aside: its vectors mean nothing to this one."""
    async with running(tmp_path) as (vectors, _):
        await vectors.upsert(document(["alpha"]))
    async with running(tmp_path, size=16) as (vectors, _):
        assert await vectors.counts() == {}
        await vectors.upsert(document(["beta"], size=16))


async def test_crash_on_opening(tmp_path: Path) -> None:
    """A shard that crashed the engine twice while it was opened is not opened a third time."""
    async with running(tmp_path) as (vectors, _):
        await vectors.upsert(document(["alpha"]))
    (tmp_path / "medium.opening").write_bytes(b"xx")
    async with running(tmp_path) as (vectors, _):
        assert (await vectors.info()).points == {"coarse": 1, "medium": 0, "fine": 1}


async def test_bad_points(tmp_path: Path) -> None:
    """An embedding of the wrong size or an id that is none is refused and nothing is stored."""
    good = document(["alpha"])
    async with running(tmp_path) as (vectors, _):
        with pytest.raises(InvalidInput, match="does not fit"):
            await vectors.upsert(document(["alpha"], size=4))
        with pytest.raises(InvalidInput, match="not a chunk id"):
            await vectors.upsert([VectorPoint("x", "d", Level.FINE, "c", "m", "text", None)])
        await vectors.upsert(good)
        assert await vectors.counts() == {good[0].document: 3}


async def test_search_while_writing(tmp_path: Path) -> None:
    """Searches answer correctly while thousands of points are written."""
    first = document(["needle in here"])
    async with running(tmp_path) as (vectors, _):
        await vectors.upsert(first)
        writing = asyncio.create_task(vectors.upsert(document([f"hay {number}" for number in range(4000)])))
        searches = 0
        while not writing.done():
            found = await asyncio.gather(*(vectors.search("needle", unit(0), limit=5) for _ in range(4)))
            assert all(legs.keyword[Level.MEDIUM][0].document == first[0].document for legs in found)
            searches += 4
        await writing
        assert searches > 0
