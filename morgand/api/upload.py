"""Uploads, streamed part by part into spool files: never in memory, never under a name the client chose."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import unicodedata
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from aiohttp import BodyPartReader, MultipartReader, http_exceptions, web

from morgand.base import files
from morgand.base.aio import to_its_end
from morgand.base.errors import InvalidInput, MorganError, StorageFull, TooLarge

PIECE_BYTES = 1024 * 1024
FIELD_BYTES = 16 * 1024
NAME_CHARS = 255
SOURCE_CHARS = 4096
FILES_MAX = 1000
_MACHINE = re.compile(r"[A-Za-z0-9_-]{8,64}")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


async def parts(request: web.Request) -> AsyncIterator[BodyPartReader]:
    """The parts of a form. Raises InvalidInput for what is no form or breaks off."""
    if request.content_type != "multipart/form-data":
        raise InvalidInput("body: send the files as multipart/form-data.")
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if isinstance(part, MultipartReader):
                raise InvalidInput("body: a form inside a form.")
            yield part
    except (ValueError, AssertionError, http_exceptions.HttpProcessingError, web.RequestPayloadError) as err:
        # The parser of aiohttp asserts where a form breaks off.
        raise InvalidInput("body: this is not a whole multipart form.") from err


async def field(part: BodyPartReader) -> str:
    """The text of a small field. Raises InvalidInput."""
    content = bytearray()
    while piece := await part.read_chunk():
        content += piece
        if len(content) > FIELD_BYTES:
            raise InvalidInput(f"{part.name}: is over {FIELD_BYTES} bytes.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as err:
        raise InvalidInput(f"{part.name}: is not UTF-8 text.") from err


async def spool(part: BodyPartReader, folder: Path, *, document_mb: int) -> tuple[Path, int]:
    """The part's content as a new file of mode 0600, and its size in bytes; the file is the caller's to remove.

    Raises InvalidInput (empty), TooLarge (the rest of the part is read and dropped), StorageFull; then there is none.
    """
    path = folder / uuid4().hex
    size = 0
    try:
        size = await _spool(part, path, document_mb)
    except OSError as err:
        raise _translated(err) from err
    finally:
        if not size:
            await clear([path])
    if not size:
        raise InvalidInput(f"{display_name(part.filename)}: the file is empty.")
    return path, size


async def clear(paths: Sequence[Path]) -> None:
    """Remove spool files that are still there."""
    if paths:
        await asyncio.shield(asyncio.to_thread(_unlink, paths))


async def _spool(part: BodyPartReader, path: Path, document_mb: int) -> int:
    """Content that fits one piece is written in one go; most documents are that small."""
    limit = document_mb * 1024 * 1024
    size = 0
    buffer = bytearray()
    while piece := await part.read_chunk(PIECE_BYTES):
        size += len(piece)
        if size > limit:
            await part.release()
            raise TooLarge(f"The document is over {document_mb} MiB.", remedy="Raise limits.document_mb.")
        buffer += piece
        if len(buffer) >= PIECE_BYTES:
            await _append(path, bytes(buffer))
            buffer.clear()
    if buffer:
        await _append(path, bytes(buffer))
    return size


def identity(raw: str) -> str:
    """What a file is known by: its path as it was sent, with every blank and invisible letter. Cleaning is for display.

    A name with bytes that are no UTF-8, which neither JSON nor a database carries, becomes a ``file:`` URI: no path
    begins so. Raises InvalidInput for what no system has as a path.
    """
    if len(raw) > SOURCE_CHARS:
        raise InvalidInput(f"source: is over {SOURCE_CHARS} characters.", remedy="Send a shorter path.")
    if "\x00" in raw:
        raise InvalidInput("source: holds a NUL, which no path does.")
    try:
        raw.encode("utf-8")
    except UnicodeEncodeError:
        return "file:" + quote(raw, errors="surrogatepass")
    return raw


def machine(raw: str) -> str:
    """The id of the machine that sends. Raises InvalidInput; what begins with ``key:`` is ours to give."""
    if not _MACHINE.fullmatch(raw):
        raise InvalidInput("machine: is no id of 8 to 64 letters, digits, '-' and '_'.")
    return raw


def display_name(raw: str | None) -> str:
    """A file name fit to be shown: last part of the path, no control characters, at most 255 characters."""
    last = (raw or "").replace("\\", "/").rsplit("/", 1)[-1]
    shown = printable(last)[:NAME_CHARS]
    return "document" if shown in {"", ".", ".."} else shown


def printable(raw: str) -> str:
    """Without control and format characters and lone surrogates; line breaks become spaces."""
    spaced = " ".join(raw.split())
    return "".join(char for char in spaced if unicodedata.category(char) not in {"Cc", "Cf", "Cs"})


async def _append(path: Path, content: bytes) -> None:
    """Whoever is cut off meanwhile waits: a thread that writes later would make the file anew."""
    await to_its_end(asyncio.to_thread(files.append, path, content))


def _unlink(paths: Sequence[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):  # on a disk that can only be read: the next start clears the spool
            path.unlink(missing_ok=True)


def _translated(err: OSError) -> MorganError:
    if err.errno in _FULL:
        return StorageFull("The disk is full or read-only.", remedy="Free space on the data directory's disk.")
    return MorganError(f"The upload could not be stored: {err.strerror}.")
