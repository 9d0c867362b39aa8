"""A real daemon in a process of its own, and a small blocking client for its Unix socket."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

START_S = 120.0
STOPPED_S = 80.0  # handing over, saying goodbye and ending the engines have limits of their own; systemd waits for 90


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass
class Daemon:
    """``morgand run`` on a data directory; started, killed and started again by tests."""

    data_dir: Path
    settings: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()  # what runs the daemon, in a namespace say
    process: subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.data_dir.parent / f"{self.data_dir.name}.log"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, *, ready: tuple[str, ...] = ("core", "llm", "embedder", "reranker", "vectors", "db")) -> None:
        """Start and wait until the named roles are ready."""
        argv = [*self.prefix, sys.executable, "-m", "morgand", "run", "--set", f"host.data_dir={self.data_dir}"]
        for one in ("api.listen=127.0.0.1:0", "catalog.download=false", *self.settings):
            argv += ["--set", one]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(argv, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        self.until(lambda: self._ready(ready), START_S, f"roles {ready} ready")

    def _ready(self, wanted: tuple[str, ...]) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon ended: {self.log.read_text()[-3000:]}")
        try:
            status, body = self.request("GET", "/v1/roles", timeout_s=5)
        except (OSError, http.client.HTTPException):
            return False
        states = {one["role"]: one["state"] for one in body["roles"]} if status == 200 else {}
        return all(states.get(role) == "ready" for role in wanted)

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {what}\n{self.log.read_text()[-3000:]}")
            time.sleep(0.1)

    def request(
        self, method: str, path: str, body: Any = None, *, timeout_s: float = 120.0, raw: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:  # fmt: skip
        """Status and decoded JSON of one request."""
        connection = UnixConnection(self.data_dir / "morgand.sock", timeout_s)
        try:
            payload = raw if raw is not None else (json.dumps(body).encode() if body is not None else None)
            sent = {"Content-Type": "application/json"} if payload is not None else {}
            connection.request(method, path, payload, {**sent, **(headers or {})})
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text.startswith((b"{", b"[")) else text.decode()
        finally:
            connection.close()

    def turn(self, text: str, *, turn_id: str | None = None, **more: Any) -> tuple[int, Any]:
        return self.request("POST", "/v1/turns", {"id": turn_id or str(uuid.uuid4()), "text": text, **more})

    def upload(self, files: dict[str, bytes]) -> tuple[int, Any]:
        """One multipart upload; sources are the names."""
        boundary = uuid.uuid4().hex
        parts: list[bytes] = []
        for name, content in files.items():
            parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="source"\r\n\r\n{name}\r\n'.encode())
            parts.append(
                f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
                "Content-Type: application/octet-stream\r\n\r\n".encode()
                + content
                + b"\r\n"
            )
        parts.append(f"--{boundary}--\r\n".encode())
        return self.request(
            "POST", "/v1/documents", raw=b"".join(parts),
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )  # fmt: skip

    def documents(self) -> list[dict[str, Any]]:
        status, body = self.request("GET", "/v1/documents?limit=1000")
        assert status == 200, body
        documents: list[dict[str, Any]] = body["documents"]
        return documents

    def settled(self) -> bool:
        """Whether every document is completed or failed."""
        return all(one["state"] in ("completed", "failed") for one in self.documents())

    def engines(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    def kill(self) -> list[psutil.Process]:
        """SIGKILL the daemon alone; returns the engines it had."""
        engines = self.engines()
        os.kill(self.pid, signal.SIGKILL)
        assert self.process is not None
        self.process.wait()
        return engines

    def stop(self) -> int:
        """SIGTERM and wait; the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=STOPPED_S)


def away_and_back(one: Daemon) -> None:
    """As from a backup: other files than those that were there."""
    backup = one.data_dir.with_name("backup")
    subprocess.run(["cp", "-a", str(one.data_dir), str(backup)], check=True)
    one.data_dir.rename(one.data_dir.with_name("the disk that failed"))
    subprocess.run(["cp", "-a", str(backup), str(one.data_dir)], check=True)
    shutil.rmtree(one.data_dir.with_name("the disk that failed"))
    shutil.rmtree(backup)


def events(response: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    """Server-sent events of a response, as they come."""
    name = ""
    for raw in response:
        line = raw.decode().rstrip("\r\n")
        if line.startswith("event:"):
            name = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            yield name, json.loads(line.removeprefix("data:"))
