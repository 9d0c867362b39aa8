"""``DATA_DIR/cluster/member.json``: that this host belongs to a cluster, and where others were last seen.

It is written last when a host joins or founds, so a host that has it has all its key material too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

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


def encode(membership: MemberFile) -> bytes:
    """For the file (write it whole, mode 0600)."""
    return msgspec.json.format(msgspec.json.encode(membership), indent=2) + b"\n"


def encode_keyring(keys: tuple[str, ...]) -> bytes:
    """Serf's keyring file: base64 keys, the first encrypts, all decrypt."""
    return msgspec.json.format(msgspec.json.encode(keys), indent=2) + b"\n"
