"""Objects in a folder of this host, under the digest of their content (implements ``ports.ObjectFiles``).

A file is complete from the moment it has its name: it is written beside, forced to disk, renamed, and the folders that
lead to it are forced to disk too. The same content is stored once. Removing it takes a mark that storing takes off.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from morgand.base import files
from morgand.base.errors import NotFound, StorageFull, Unavailable, Unreadable

KEY = re.compile(r"([0-9a-f]{2})/([0-9a-f]{2})/([0-9a-f]{64})")
BLOCK = 1 << 20
MARKS = 100_000
FREE = "Nothing was half-written. Free some space, or make the data directory writable, and try again."


class FolderObjects:
    """Keys are ``ab/cd/SHA256``; nothing else is a key, so no key leads out of the folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._marks: dict[str, str] = {}  # of removals under way; a daemon that starts anew has none to carry out
        self._cleared = False
        self._marking = threading.Lock()  # what a mark says and what is on disk change together

    async def put_file(self, path: Path) -> str:
        """Copy a file's content in, durably, and return its key. Raises Unreadable, StorageFull."""
        return await asyncio.to_thread(self._put, path)

    async def path(self, key: str) -> Path:
        """Raises NotFound, and Unreadable when the disk does not give it."""
        file = self._file(key)
        if not await asyncio.to_thread(self._there, file):
            raise NotFound(f"There is no object '{key}'.")
        return file

    async def keep(self, keys: Sequence[str]) -> list[str]:
        """See the port. Raises Unreadable as ``path``."""
        return await asyncio.to_thread(self._missing, [(key, self._file(key)) for key in keys])

    async def mark(self, keys: Sequence[str]) -> str:
        """See the port."""
        mark = uuid4().hex
        with self._marking:
            if len(self._marks) + len(keys) > MARKS:
                self._marks.clear()  # those removals are left to a later sweep
            self._marks.update(dict.fromkeys(keys, mark))
        return mark

    async def delete(self, key: str, mark: str = "") -> None:
        """See the port. What is not there any more is deleted already."""
        await asyncio.to_thread(self._delete, key, self._file(key), mark)

    def _file(self, key: str) -> Path:
        match = KEY.fullmatch(key)
        if match is None or match[3][:4] != match[1] + match[2]:
            raise NotFound(f"There is no object '{key}'.")
        return self._root / key

    def _put(self, path: Path) -> str:
        try:
            source = path.open("rb")
        except OSError as err:
            raise Unreadable(f"{path.name!r} cannot be read: {err.strerror}.") from err
        temporary: Path | None = None
        try:
            with source:
                self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
                handle, name = tempfile.mkstemp(prefix=".new-", dir=self._root)  # mode 0600
                temporary = Path(name)
                digest = _copy(source.fileno(), handle)
            key = f"{digest[:2]}/{digest[2:4]}/{digest}"
            self._settle(temporary, key)
        except OSError as err:
            raise _translated(err, self._root) from err
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
        return key

    def _settle(self, temporary: Path, key: str) -> None:
        file = self._root / key
        for folder in (file.parent.parent, file.parent):
            folder.mkdir(exist_ok=True, mode=0o700)  # one by one: `parents` would forget the mode
        with self._marking:
            self._marks.pop(key, None)
            if not file.exists():
                temporary.replace(file)
        # even if it was there: another call may have renamed it a moment ago and not come to this yet
        for folder in (file.parent, file.parent.parent, self._root):
            files.sync(folder)

    def _missing(self, files: Sequence[tuple[str, Path]]) -> list[str]:
        with self._marking:
            for key, _ in files:
                self._marks.pop(key, None)
            return [key for key, file in files if not self._there(file)]

    def _there(self, file: Path) -> bool:
        try:
            return file.is_file()
        except OSError as err:
            raise Unreadable(
                f"The original cannot be read: {err.strerror}.", remedy=f"Look after the disk that has {self._root}."
            ) from err

    def _delete(self, key: str, file: Path, mark: str) -> None:
        try:
            with self._marking:
                if self._marks.get(key) != mark:
                    return
                file.unlink(missing_ok=True)
                del self._marks[key]
            if file.parent.exists():
                files.sync(file.parent)
        except OSError as err:
            raise _translated(err, self._root) from err

    async def keys(self) -> list[str]:
        """Raises Unavailable when the folder cannot be read."""
        try:
            return await asyncio.to_thread(self._keys)
        except OSError as err:
            raise Unavailable(f"Objects in {self._root} cannot be listed: {err.strerror}.") from err

    def _keys(self) -> list[str]:
        found = (file.relative_to(self._root).as_posix() for file in self._root.glob("??/??/*") if file.is_file())
        return [key for key in found if KEY.fullmatch(key)]

    async def clear_leftovers(self) -> None:
        """Remove what an earlier daemon was writing when it died. Once: what is there later is being written."""
        if not self._cleared:
            await asyncio.to_thread(self._clear)
            self._cleared = True

    def _clear(self) -> None:
        for leftover in self._root.glob(".new-*"):
            leftover.unlink(missing_ok=True)


def _copy(source: int, target: int) -> str:
    """Copy, force to disk, and return the sha256 of what was copied (not of what the file becomes later)."""
    digest = hashlib.sha256()
    try:
        while block := os.read(source, BLOCK):
            digest.update(block)
            view = memoryview(block)
            while view:
                view = view[os.write(target, view) :]
        os.fsync(target)
    finally:
        os.close(target)
    return digest.hexdigest()


def _translated(err: OSError, root: Path) -> StorageFull:
    return StorageFull(f"Objects cannot be written in {root}: {err.strerror}.", remedy=FREE)
