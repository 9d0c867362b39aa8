"""``DATA_DIR/cluster/member.json``: that this host belongs to a cluster, and where others were last seen; and the keys
of the cluster's gossip beside it. Blocking.

``member.json`` is written last when a host joins or founds, so a host that has it has all its key material too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from morgand.base import files
from morgand.base.errors import ConfigError

FILE = "member.json"
ANEW = "Let it in anew: `morganctl cluster invite` on another host, `morgand join` here."
KEYRING = "gossip.keyring"


@dataclass(frozen=True, slots=True)
class MemberFile:
    """``port`` is the first of the host's six; ``peers`` are APIs of hosts (``ip:port``), ``etcd`` client URLs."""

    cluster: str
    cluster_name: str
    host: str
    address: str
    port: int
    peers: tuple[str, ...] = ()
    etcd: tuple[str, ...] = ()

    @property
    def api(self) -> str:
        """This host's API for hosts, ``ip:port``."""
        return f"{self.address}:{self.port}"


def read(folder: Path) -> MemberFile | None:
    """None on a lone host. Raises ConfigError for a damaged file."""
    file = folder / FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=MemberFile)
    except FileNotFoundError:
        return None
    except OSError as err:
        raise ConfigError(f"{file} cannot be read: {err.strerror}.") from err
    except msgspec.MsgspecError as err:
        raise ConfigError(f"{file} is damaged: {err}.", remedy=ANEW) from err


def write(folder: Path, member: MemberFile) -> None:
    """Raises StorageFull."""
    _write(folder / FILE, member)


def read_keyring(folder: Path) -> tuple[str, ...]:
    """The keys of the gossip, base64: the first encrypts, all decrypt. Raises OSError."""
    return msgspec.json.decode((folder / KEYRING).read_bytes(), type=tuple[str, ...])


def write_keyring(folder: Path, keys: tuple[str, ...]) -> None:
    """Serf reads it, and changes it itself from then on. Raises StorageFull."""
    _write(folder / KEYRING, keys)


def _write(file: Path, content: MemberFile | tuple[str, ...]) -> None:
    files.write_private(file, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
