"""A real PostgreSQL server of our own, on a Unix socket in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_LIMIT_S = 60.0


def binaries() -> Path | None:
    """The newest installed server's folder."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parents[1].name))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def _identity() -> dict[str, Any]:
    """PostgreSQL refuses root: somebody without rights runs it then."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@contextmanager
def server() -> Iterator[str]:
    """Yields the URL of an empty database; the server is gone afterwards."""
    folder = binaries()
    assert folder is not None
    who = _identity()
    root = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # the socket's path has to be short
    try:
        if who:
            os.chown(root, who["user"], who["group"])
        data = root / "data"
        make: list[str | Path] = [
            folder / "initdb",
            "-D",
            data,
            "-U",
            "morgan",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-N",
        ]
        subprocess.run(make, check=True, capture_output=True, cwd=root, **who)
        options: list[str | Path] = ["-D", data, "-k", root, "-c", "listen_addresses=", "-c", "fsync=off"]
        with (root / "log").open("wb") as log:
            running: subprocess.Popen[bytes] = subprocess.Popen(
                [folder / "postgres", *options], stdout=log, stderr=log, cwd=root, **who
            )
        try:
            _wait(running, folder, root)
            yield f"postgresql+asyncpg://morgan@/postgres?host={root}"
        finally:
            running.terminate()
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _wait(running: subprocess.Popen[bytes], folder: Path, root: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while subprocess.run([folder / "pg_isready", "-q", "-h", root, "-U", "morgan"], check=False).returncode != 0:
        if running.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start: {(root / 'log').read_text()}")
        time.sleep(0.1)
