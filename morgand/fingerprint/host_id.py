"""Who this host is: an id made once, bound to the machine and to the very file that holds it.

Whether a data directory is the host's own, or a copy of one, is decided from values: the file says on which machine,
where and as which file it was written, and what is found here is compared with that. A file is known by its number and
by when it was made: the number alone is given to the copy that is put back, where the system likes to.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from morgand.base import births, files
from morgand.base.errors import ConfigError, StorageFull
from morgand.fingerprint.machine import UNKNOWN, machine_digest

FILE = "host.json"


@dataclass(frozen=True, slots=True)
class HostIdentity:
    id: str
    cluster_id: str


class Standing(StrEnum):
    """What a data directory is to the host that it says it is of."""

    OWN = "own"  # where that host runs, or a new host's
    RESTORED = "restored"  # on its machine, and the original is gone: a backup put back, or moved to another disk
    COPY = "copy"  # the original is still there on this machine
    FOREIGN = "foreign"  # from another machine, where the original may be in use


class Record(msgspec.Struct, frozen=True):
    """What stands in the file. ``path`` is the data directory's, ``born`` when the file was made (``base/births``);
    the first files had none of them.
    """

    host: str
    cluster: str
    machine: str
    inode: int
    path: str = ""
    born: int = births.UNKNOWN


@dataclass(frozen=True, slots=True)
class Found:
    """What is the case here. ``original``: another directory, where this one says that it was, is of this host too."""

    machine: str
    inode: int
    path: str
    original: bool
    born: int = births.UNKNOWN


@dataclass(frozen=True, slots=True)
class Kept:
    """What ``host.json`` says. ``bound``: to this machine, this directory and this file, as it stands."""

    identity: HostIdentity
    standing: Standing
    bound: bool


def judge(record: Record, found: Found) -> Standing:
    """A machine that is not known is no other one, nor is a time of birth. A file that was only renamed keeps both."""
    if UNKNOWN not in (record.machine, found.machine) and record.machine != found.machine:
        return Standing.FOREIGN
    if found.original:
        return Standing.COPY
    if record.inode == found.inode and (births.UNKNOWN in (record.born, found.born) or record.born == found.born):
        return Standing.OWN
    return Standing.RESTORED if record.path else Standing.COPY


def load_or_create(data_dir: Path, machine: str | None = None) -> Kept:
    """The identity in ``host.json``, made at the first start, and whether it is this directory's to use.

    Raises ConfigError when the file is damaged, StorageFull when it cannot be written. ``machine`` is the machine's
    digest; read from the system when None.
    """
    file = data_dir / FILE
    digest = machine_digest() if machine is None else machine
    try:
        with file.open("rb") as opened:
            record, inode = _decoded(file, opened.read()), os.fstat(opened.fileno()).st_ino
            born = births.born_ns(opened.fileno())
    except FileNotFoundError:
        made = HostIdentity(str(uuid.uuid4()), str(uuid.uuid4()))
        return Kept(bind(data_dir, made, digest), Standing.OWN, bound=True)
    except OSError as err:
        raise ConfigError(f"{file} cannot be read: {err.strerror}.") from err
    found = Found(digest, inode, str(data_dir.resolve()), original=_original(record, file), born=born)
    here = (found.machine, found.inode, found.path, found.born)
    bound = (record.machine, record.inode, record.path, record.born) == here
    return Kept(HostIdentity(record.host, record.cluster), judge(record, found), bound)


def bind(data_dir: Path, identity: HostIdentity, machine: str | None = None) -> HostIdentity:
    """From now on this directory, here, is that host's. Raises StorageFull.

    Which file it is is known only once there is one; the fresh file stays the same when it takes the old one's place.
    """
    file = data_dir / FILE
    digest = machine_digest() if machine is None else machine
    try:
        with files.replacing(file) as fresh:
            inode, born = os.fstat(fresh.fileno()).st_ino, births.born_ns(fresh.fileno())
            record = Record(identity.id, identity.cluster_id, digest, inode, str(data_dir.resolve()), born)
            fresh.write(msgspec.json.encode(record) + b"\n")
    except OSError as err:
        raise StorageFull(f"{file} cannot be written: {err.strerror}.", remedy="Check the data directory.") from err
    return identity


def _original(record: Record, file: Path) -> bool:
    """Whether the directory that this one was made from is still there."""
    if not record.path:
        return False
    other = Path(record.path) / FILE
    try:
        return not other.samefile(file) and _decoded(other, other.read_bytes()).host == record.host
    except (OSError, ConfigError):
        return False


def _decoded(file: Path, data: bytes) -> Record:
    try:
        return msgspec.json.decode(data, type=Record)
    except msgspec.MsgspecError as err:
        raise ConfigError(f"{file} is damaged: {err}.", remedy=f"Delete {file} to make a new host of it.") from err
