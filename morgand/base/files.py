"""Files that are written whole or not at all, readable by their owner alone. Blocking."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from morgand.base.errors import StorageFull

UNFINISHED = ".new"


def write_private(file: Path, content: bytes) -> None:
    """Replace a file (mode 0600) so that a crash leaves the old one or the new one. Raises StorageFull."""
    try:
        write_whole(file, content)
    except OSError as err:
        raise StorageFull(f"{file} cannot be written: {err.strerror}.", remedy="Check the data directory.") from err


def write_whole(file: Path, content: bytes) -> None:
    """As ``write_private``, for callers with a remedy of their own. Raises OSError."""
    with replacing(file) as opened:
        opened.write(content)


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[BinaryIO]:
    """What is written in the block takes the place of ``file`` at its end (mode 0600, unless the block sets another).

    Whatever goes wrong leaves the old file, and no unfinished one. Raises OSError.
    """
    fresh = file.with_name(file.name + UNFINISHED)
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
        fresh.replace(file)
        sync(file.parent)
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)


def append(file: Path, content: bytes) -> None:
    """Add to a file, which is made (mode 0600) if it is not there. Raises OSError."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


def sync(folder: Path) -> None:
    """Force the names in a folder to disk. Raises OSError."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
