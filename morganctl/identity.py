"""Which machine this is: an id that is made once and kept in the user's state directory, in a file only the user reads.

The host's name would not do: two machines may have the same, and one may change its own.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from morganctl.discover import state_dir
from morganctl.errors import CliError
from morganctl.record import private_dir

_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_ID_BYTES = 1024  # a file with more is none of ours


@dataclass(frozen=True, slots=True)
class Machine:
    """``name`` is for people."""

    id: str
    name: str


def this_machine() -> Machine:
    """Makes the id when there is none. Raises CliError where it can be neither read nor kept."""
    path = id_path()
    try:
        if not path.exists():
            _make(path)
        found = _read(path)
    except OSError as err:
        raise CliError(
            f"This machine's id cannot be kept in {path}: {err.strerror}.",
            code="machine",
            remedy="Make that folder writable, or name another one in XDG_STATE_HOME.",
        ) from err
    if not _ID.fullmatch(found):
        raise CliError(
            f"{path} does not hold a machine's id.",
            code="machine",
            remedy="Restore the file; if you remove it, this machine is a new one and its documents are sent anew.",
        )
    return Machine(found, socket.gethostname())


def known_id() -> str:
    """This machine's id; '' where there is none, or none that can be read."""
    try:
        return _read(id_path())
    except OSError:
        return ""


def id_path() -> Path:
    return state_dir() / "machine-id"


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_ID_BYTES).decode("ascii", "replace").strip()


def _make(path: Path) -> None:
    """Whole or not at all; of several commands that make it at once, the first one's counts. Raises OSError."""
    private_dir(path.parent)
    handle, name = tempfile.mkstemp(prefix=".machine-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"{uuid.uuid4()}\n")
            file.flush()
            os.fsync(file.fileno())
        _settle(Path(name), path)
    finally:
        Path(name).unlink(missing_ok=True)


def _settle(made: Path, path: Path) -> None:
    try:
        path.hardlink_to(made)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        if not path.exists():
            made.replace(path)
