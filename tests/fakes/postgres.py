"""Real PostgreSQL servers of our own, each on a Unix socket in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from morgand.storage.database import Database
from morgand.storage.migrate import upgrade
from morgand.storage.models import Base, TermRow

START_LIMIT_S = 60.0
STOP_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Server:
    """``folder`` holds the socket, the log and ``data``."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://morgan@/postgres?host={self.folder}"

    def sql(self, command: str) -> str:
        """Perform it beside whatever the server is doing; returns what psql prints."""
        arguments: list[str | Path] = [_binary("psql"), "-h", self.folder, "-U", "morgan", "-d", "postgres"]
        ran = subprocess.run([*arguments, "-XAtqc", command], check=True, capture_output=True, text=True)
        return ran.stdout.strip()

    def set(self, name: str, value: str) -> None:
        """Change a setting that needs no restart."""
        self.sql(f"ALTER SYSTEM SET {name} = '{value}'")
        self.sql("SELECT pg_reload_conf()")


def binaries() -> Path | None:
    """The newest installed server's folder."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parents[1].name))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


needed = pytest.mark.skipif(binaries() is None, reason="no PostgreSQL server is installed (initdb is not found)")


@contextmanager
def server(*settings: str) -> Iterator[Server]:
    """An empty database that loses its files afterwards; settings are such as ``fsync=on``."""
    with _folder() as root:
        make: list[str | Path] = [_binary("initdb"), "-D", root / "data", "-U", "morgan", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*make, "--locale=C.UTF-8", "-N"], check=True, capture_output=True, cwd=root, **_identity())
        with _running(root, settings) as started:
            yield started


@contextmanager
def standby(primary: Server, name: str, *settings: str) -> Iterator[Server]:
    """A copy that follows, and calls itself ``name``; it is synchronous once the primary is told to wait for it."""
    with _folder() as root:
        copy: list[str | Path] = [_binary("pg_basebackup"), "-D", root / "data", "-R", "-c", "fast", "-N"]
        source = f"host={primary.folder} user=morgan application_name={name}"
        subprocess.run([*copy, "-d", source], check=True, capture_output=True, cwd=root, **_identity())
        with _running(root, settings) as started:
            yield started


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """With the schema and without data."""
    database = Database(url)
    await database.open()
    await upgrade(database)
    names = [table.name for table in Base.metadata.sorted_tables if table.name != TermRow.__tablename__]
    async with database.change_schema() as connection:
        await connection.execute(text(f"TRUNCATE {', '.join(names)}"))
        await connection.execute(text("UPDATE term SET epoch = 0"))
    yield database
    await database.close()


def _binary(name: str) -> Path:
    folder = binaries()
    assert folder is not None, "no PostgreSQL server is installed"
    return folder / name


def _identity() -> dict[str, Any]:
    """PostgreSQL refuses root: somebody without rights runs it then."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@contextmanager
def _folder() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # the socket's path has to be short
    if who := _identity():
        os.chown(root, who["user"], who["group"])
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def _running(root: Path, settings: tuple[str, ...]) -> Iterator[Server]:
    options: list[str | Path] = ["-D", root / "data", "-k", root]
    for setting in ("listen_addresses=", "fsync=off", *settings):
        options += ["-c", setting]
    with (root / "log").open("wb") as log:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [_binary("postgres"), *options], stdout=log, stderr=log, cwd=root, **_identity()
        )
    try:
        _wait(process, root)
        yield Server(root, process)
    finally:
        process.send_signal(signal.SIGINT)  # end the sessions too
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], root: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    ready: list[str | Path] = [_binary("pg_isready"), "-q", "-h", root, "-U", "morgan"]
    while subprocess.run(ready, check=False).returncode != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start: {(root / 'log').read_text()}")
        time.sleep(0.1)
