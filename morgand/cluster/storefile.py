"""The cluster's truth in a file: written whole, atomically, with a checksum and one generation kept.

A lone host's ``store`` is the truth itself; a member's ``copy`` is what it last knew of it.

Layout: a magic line, the SHA-256 of the rest, the rest in msgpack.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
from pathlib import Path

import msgspec

from morgand.base import files
from morgand.base.errors import MorganError, StorageFull, Unavailable

log = logging.getLogger("morgand.cluster")

MAGIC = b"MORGAN-STORE-1\n"
FALLBACK_LEAP = 1000  # revisions skipped after falling back, so that no epoch is ever given twice
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}

Row = tuple[str, bytes, int, int]  # key, value, create revision, mod revision


class StoreContent(msgspec.Struct, frozen=True):
    revision: int
    rows: list[Row]


class DamagedStore(MorganError):
    """A file of the cluster store is damaged."""


class StoreFile:
    """Blocking file access; call it in a thread."""

    def __init__(self, directory: Path, name: str = "store") -> None:
        self.path = directory / name
        self.previous = directory / f"{name}.previous"

    def exists(self) -> bool:
        return self.path.exists() or self.previous.exists()

    def read(self) -> StoreContent:
        """The newest readable generation; empty where there is none. Raises DamagedStore, Unavailable."""
        try:
            content = _parse(self.path)
        except DamagedStore as err:
            kept = self._read_previous()
            if kept is None:
                raise DamagedStore(
                    f"The cluster store {self.path} is damaged, and so is the copy beside it.",
                    remedy=f"Restore {self.path} from a backup, or move it away to begin with an empty cluster "
                    "(conversations and documents are not in it and stay).",
                ) from err
            log.warning("cluster store damaged, previous generation used", extra={"file": str(self.path)})
            return StoreContent(kept.revision + FALLBACK_LEAP, kept.rows)
        if content is not None:
            return content
        return self._read_previous() or StoreContent(0, [])

    def write(self, content: StoreContent) -> None:
        """Durable when it returns. Raises StorageFull and leaves the old file in place."""
        body = msgspec.msgpack.encode(content)
        data = MAGIC + hashlib.sha256(body).digest() + body
        try:
            with files.replacing(self.path) as fresh:
                fresh.write(data)
                fresh.flush()  # a full disk says so before the present file is touched
                with contextlib.suppress(FileNotFoundError):
                    self._keep_if_whole()
        except OSError as err:
            raise _translated(err, self.path) from err

    def _keep_if_whole(self) -> None:
        """The present file becomes the previous one, unless it is the damaged one that we fell back from.

        Under a second name, where the file system knows such: at no moment is there no file.
        """
        with contextlib.suppress(DamagedStore):
            if _parse(self.path) is None:
                return
            second = self.previous.with_name(f"{self.previous.name}.new")
            second.unlink(missing_ok=True)
            try:
                second.hardlink_to(self.path)
            except OSError:
                self.path.replace(self.previous)
            else:
                second.replace(self.previous)

    def _read_previous(self) -> StoreContent | None:
        try:
            return _parse(self.previous)
        except DamagedStore:
            return None


def _parse(path: Path) -> StoreContent | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as err:
        raise _translated(err, path) from err
    head, body = data[: len(MAGIC) + 32], data[len(MAGIC) + 32 :]
    if head != MAGIC + hashlib.sha256(body).digest():
        raise DamagedStore(f"{path} is damaged.")
    try:
        return msgspec.msgpack.decode(body, type=StoreContent)
    except msgspec.MsgspecError as err:
        raise DamagedStore(f"{path} is damaged.") from err


def _translated(err: OSError, path: Path) -> MorganError:
    if err.errno in NO_SPACE:
        return StorageFull(
            f"The cluster store {path} cannot be written: {err.strerror}.",
            remedy="Free space on its disk, or make it writable for the user that runs morgand.",
        )
    return Unavailable(f"The cluster store {path} cannot be used: {err.strerror}.", remedy="Check its disk.")
