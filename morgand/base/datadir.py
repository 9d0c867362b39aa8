"""The data directory: its layout, and the lock that keeps a second daemon out of it.

``morgand.sock`` the local API, ``host.json`` identity, ``cluster/`` the store, ``db/`` SQLite, ``objects/``,
``vectors/``, ``models/``, ``outbox/`` messages that wait for the database, ``spool/`` uploads on their way, ``logs/``,
``run/`` sockets of engines.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from morgand.base.errors import ConfigError, Conflict, StorageFull

MAX_SOCKET_PATH = 100  # sun_path holds 108 bytes on Linux, 104 on macOS
FOLDERS = ("cluster", "models", "outbox", "spool", "logs", "run")
LOCK_TRIES, LOCK_PAUSE_S = 10, 0.05  # ``holder`` has the lock for a moment whenever it looks


class DataDir:
    """An exclusive hold on a data directory; a context manager."""

    def __init__(self, root: Path, stores: Sequence[str] = ()) -> None:
        """``stores``: folders of roles that keep something."""
        self._stores = tuple(stores)
        self.root = root.absolute()
        self._lock: int | None = None

    def __enter__(self) -> Self:
        """Take the lock, and only then make the folders (mode 0700) and empty the spool.

        Raises ConfigError, Conflict, StorageFull.
        """
        if len(os.fsencode(self.socket)) > MAX_SOCKET_PATH:
            raise ConfigError(
                f"The path {self.root} is too long for the socket in it ({MAX_SOCKET_PATH} bytes at most).",
                remedy="Set host.data_dir to a shorter path.",
            )
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._hold(self._lock)
            self._prepare()
        except OSError as err:
            self._release()
            raise _translated(err, self.root) from err
        except Conflict:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    @property
    def socket(self) -> Path:
        return self.root / "morgand.sock"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def run_dir(self) -> Path:
        """Where engine sockets live: inside, or under the system's temporary folder when the path is too long."""
        inside = self.root / "run"
        if len(os.fsencode(inside)) + len("/llm-fast.sock") <= MAX_SOCKET_PATH:
            return inside
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        outside = Path(tempfile.gettempdir()) / f"morgand-{os.getuid()}-{digest}"
        outside.mkdir(mode=0o700, exist_ok=True)
        found = outside.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise ConfigError(f"{outside} belongs to somebody else.", remedy="Set host.data_dir to a shorter path.")
        return outside

    def _prepare(self) -> None:
        """What only the holder of the lock may do: until then everything here may belong to a daemon that runs."""
        for name in (*FOLDERS, *self._stores):
            (self.root / name).mkdir(exist_ok=True, mode=0o700)
        for leftover in (self.root / "spool").iterdir():
            leftover.unlink()  # uploads that were never acknowledged

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _hold(self, lock: int) -> None:
        for _ in range(LOCK_TRIES):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(LOCK_PAUSE_S)
        else:
            pid = os.pread(lock, 32, 0).decode(errors="replace").strip()
            raise Conflict(
                f"Another morgand (process {pid or 'unknown'}) runs on {self.root}.",
                remedy="Stop it with `morgand stop`, or give this one a data directory of its own.",
            )
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def holder(root: Path) -> int | None:
    """Process id of the daemon that holds the directory, or None."""
    try:
        lock = os.open(root / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(lock, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(lock)
    return None


def _translated(err: OSError, root: Path) -> StorageFull | ConfigError:
    if err.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"The disk of {root} is full.", remedy="Free some space and start again.")
    if err.errno == errno.EROFS:
        return StorageFull(f"{root} is on a read-only file system.", remedy="Remount it writable.")
    return ConfigError(
        f"{root} cannot be used: {err.strerror}.", remedy="Set host.data_dir to a directory this user can write."
    )
