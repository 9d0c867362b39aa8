"""Who this host is: an id made once, bound to the machine and to the very file that holds it.

Moving the data directory on one file system keeps the file; copying it makes another. So a copy is noticed, on
another machine by the machine's identity and on the same one by the file's number.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import msgspec

from morgand.base.errors import ConfigError, Conflict, StorageFull
from morgand.fingerprint.machine import machine_digest


@dataclass(frozen=True, slots=True)
class HostIdentity:
    id: str
    cluster_id: str


class _Record(msgspec.Struct, frozen=True):
    host: str
    cluster: str
    machine: str
    inode: int


def load_or_create(data_dir: Path, machine: str | None = None) -> HostIdentity:
    """The identity in ``host.json``, made at the first start.

    Raises Conflict when the data directory is a copy, ConfigError when the file is damaged, StorageFull when it
    cannot be written. ``machine`` is the machine's digest; read from the system when None.
    """
    file = data_dir / "host.json"
    digest = machine or machine_digest()
    try:
        with file.open("rb") as opened:
            data, inode = opened.read(), os.fstat(opened.fileno()).st_ino
    except FileNotFoundError:
        return _create(file, digest)
    except OSError as err:
        raise ConfigError(f"{file} cannot be read: {err.strerror}.") from err
    try:
        record = msgspec.json.decode(data, type=_Record)
    except msgspec.MsgspecError as err:
        raise ConfigError(f"{file} is damaged: {err}.", remedy=f"Delete {file} to make a new host of it.") from err
    if record.machine != digest:
        raise Conflict(f"{data_dir} was copied from another machine: two hosts would share one identity.",
                       remedy=_remedy(file))  # fmt: skip
    if record.inode != inode:
        raise Conflict(f"{data_dir} is a copy of another data directory: two hosts would share one identity.",
                       remedy=_remedy(file))  # fmt: skip
    return HostIdentity(record.host, record.cluster)


def adopt(data_dir: Path, cluster_id: str) -> HostIdentity:
    """The same host, of another cluster from now on: it has joined one. Raises as ``load_or_create``."""
    identity = HostIdentity(load_or_create(data_dir).id, cluster_id)
    return _write(data_dir / "host.json", identity, machine_digest())


def _remedy(file: Path) -> str:
    return (
        f"If this is meant to be a new host (or the original is gone, as after restoring a backup), delete {file} "
        "and start again; otherwise use the original directory."
    )


def _create(file: Path, digest: str) -> HostIdentity:
    return _write(file, HostIdentity(str(uuid.uuid4()), str(uuid.uuid4())), digest)


def _write(file: Path, identity: HostIdentity, digest: str) -> HostIdentity:
    """The inode is known only once the file exists; the temporary file keeps it when renamed."""
    fresh = file.with_name("host.json.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            inode = os.fstat(opened.fileno()).st_ino
            opened.write(msgspec.json.encode(_Record(identity.id, identity.cluster_id, digest, inode)) + b"\n")
            opened.flush()
            os.fsync(opened.fileno())
        fresh.replace(file)
    except OSError as err:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise StorageFull(f"{file} cannot be written: {err.strerror}.", remedy="Check the data directory.") from err
    return identity
