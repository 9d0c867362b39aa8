"""Fetching a model: resumed, verified, renamed into place only when whole."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import aiohttp

from morgand.base.errors import EngineError, StorageFull, Unavailable
from morgand.roles.models import target
from morgand.state.roles import Model

log = logging.getLogger("morgand.models")

ATTEMPTS = 5
PAUSE_S = 1.0  # doubled after each failed attempt
CONNECT_S = 10.0
STALL_S = 30.0  # without a byte
BLOCK = 1 << 20
SPARE_MB = 1024  # room that a download leaves on the disk
DIGEST = re.compile(r"[0-9a-f]{64}")

Progress = Callable[[int, int], None]  # bytes done, bytes in all (0 when unknown)


class _Cut(Exception):
    """The transfer ended early; what came is kept."""


@dataclass(frozen=True, slots=True)
class DownloadPatience:
    """How long a download tries."""

    attempts: int = ATTEMPTS
    pause_s: float = PAUSE_S
    stall_s: float = STALL_S


async def download(
    model: Model, models_dir: Path, progress: Progress, patience: DownloadPatience = DownloadPatience()
) -> Path:
    """Fetch a ``gguf:`` source; returns the file.

    Raises Unavailable without a network or after the last attempt, EngineError when the content has a wrong digest,
    StorageFull when there is no room, or the folder cannot be written to.
    """
    try:
        return await _download(model, models_dir, progress, patience)
    except OSError as err:  # of the network's none is left
        raise StorageFull(
            f"{err.filename or models_dir} cannot be used for models: {err.strerror or err}.",
            remedy="Let morgand read and write there, or set catalog.models_dir.",
        ) from err


async def _download(model: Model, models_dir: Path, progress: Progress, patience: DownloadPatience) -> Path:
    url = model.source.removeprefix("gguf:")
    whole = target(model, models_dir)
    part = whole.with_suffix(".part")
    if await asyncio.to_thread(_prepare, model, models_dir, whole, part):
        return whole
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=patience.stall_s)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
        for attempt in range(1, patience.attempts + 1):
            try:
                told = await _fetch(session, url, part, progress)
                break
            except (aiohttp.ClientError, TimeoutError, _Cut) as err:
                log.info("download interrupted", extra={"model": model.name, "attempt": attempt, "reason": str(err)})
                if attempt == patience.attempts:
                    raise Unavailable(
                        f"{model.name} could not be fetched: {err}.",
                        remedy="What came is kept and the rest is fetched later; other models serve meanwhile.",
                    ) from err
            await asyncio.sleep(patience.pause_s * 2 ** (attempt - 1))
    await asyncio.to_thread(_verify, part, model, model.sha256 or told)
    await asyncio.to_thread(part.replace, whole)
    log.info("model fetched", extra={"model": model.name, "file": str(whole)})
    return whole


async def _fetch(session: aiohttp.ClientSession, url: str, part: Path, progress: Progress) -> str | None:
    """Append what is missing; returns the digest the hub tells, if it does."""
    have = await asyncio.to_thread(_size, part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    async with session.get(url, headers=headers) as response:
        if response.status == 416:  # beyond the end: whole already, or the file there is another one
            total = _range_total(response.headers.get("Content-Range", ""))
            if total == have:
                return _told_digest(response)
            await asyncio.to_thread(part.unlink)
            raise _Cut("the file on the server is another one")
        if response.status not in (200, 206):
            raise _Cut(f"the server answered {response.status}")
        have, total = _position(response, have)
        file = await asyncio.to_thread(_open_at, part, have)
        try:
            async for block in response.content.iter_chunked(BLOCK):
                await asyncio.to_thread(file.write, block)
                have += len(block)
                progress(have, total)
        except OSError as err:
            if err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise StorageFull(f"{part} cannot be written: {err.strerror}.", remedy="Free disk space.") from err
            raise
        finally:
            await asyncio.to_thread(file.close)
        if total and have != total:
            raise _Cut(f"{have} of {total} bytes came")
        return _told_digest(response)


def _position(response: aiohttp.ClientResponse, asked: int) -> tuple[int, int]:
    """Where the body begins and how long the file is. A server that ignores the range, or answers another one,
    makes us begin at the start."""
    length = response.content_length or 0
    if response.status == 200:
        return 0, length
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
    if match is None or int(match.group(1)) != asked:
        raise _Cut("the server answered another range than was asked for")
    return asked, int(match.group(3))


def _range_total(text: str) -> int | None:
    match = re.fullmatch(r"bytes \*/(\d+)", text)
    return int(match.group(1)) if match else None


def _told_digest(response: aiohttp.ClientResponse) -> str | None:
    """The hub names the SHA-256 of a large file in a header of its redirect."""
    for one in (*response.history, response):
        tag = one.headers.get("X-Linked-Etag", "").strip('"')
        if DIGEST.fullmatch(tag):
            return tag
    return None


def _verify(part: Path, model: Model, expected: str | None) -> None:
    if expected is None:
        part.unlink()
        raise EngineError(
            f"{model.name} cannot be verified: neither the catalogue nor the server gives its digest.",
            remedy="Add its sha256 to the model catalogue.",
        )
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        part.unlink()
        raise EngineError(
            f"{model.name} was fetched with a wrong digest ({found[:12]} instead of {expected[:12]}) and thrown away.",
            remedy="The file at its source has changed or was tampered with; check the model catalogue.",
        )


def _prepare(model: Model, models_dir: Path, whole: Path, part: Path) -> bool:
    """Whether the model is there already. Raises StorageFull when there is no room for it."""
    if whole.exists():
        return True
    models_dir.mkdir(parents=True, exist_ok=True)
    _check_room(model, models_dir, part)
    return False


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _open_at(part: Path, position: int) -> IO[bytes]:
    """The file, cut at ``position``, ready to be continued there."""
    file = part.open("r+b" if part.exists() else "wb")
    file.truncate(position)
    file.seek(position)
    return file


def _check_room(model: Model, models_dir: Path, part: Path) -> None:
    have_mb = _size(part) // 2**20
    free_mb = shutil.disk_usage(models_dir).free // 2**20
    if free_mb < model.size_mb - have_mb + SPARE_MB:
        raise StorageFull(
            f"{model.name} needs {model.size_mb} MB on the disk of {models_dir}, which has {free_mb} MB free.",
            remedy="Free disk space or set catalog.models_dir.",
        )
