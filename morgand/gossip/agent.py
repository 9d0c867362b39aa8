"""The Serf agent's configuration (hashicorp/serf, docs/agent/options). Pure but for writing the file."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morgand.base import files
from morgand.base.errors import EngineError


@dataclass(frozen=True, slots=True)
class Place:
    """Where gossip happens: this host, its address, the port that every host gossips on, and a folder for files."""

    host: str
    address: str
    port: int
    folder: Path

    @property
    def keyring(self) -> Path:
        return self.folder / "gossip.keyring"

    @property
    def config(self) -> Path:
        return self.folder / "serf.json"


def agent_config(place: Place, *, rpc_port: int, rpc_key: str, seeds: Sequence[str]) -> dict[str, Any]:
    """``seeds`` are ``address:port`` of other hosts' gossip; those of the last run are in the snapshot."""
    return {
        "node_name": place.host,
        "bind": f"{place.address}:{place.port}",
        "rpc_addr": f"127.0.0.1:{rpc_port}",
        "rpc_auth": rpc_key,
        "profile": "local",  # the fastest of the three that the agent knows
        "keyring_file": str(place.keyring),
        "snapshot_path": str(place.folder / "serf.snapshot"),
        "rejoin_after_leave": True,
        "retry_join": list(seeds),
        "retry_interval": "2s",
        "skip_leave_on_interrupt": True,
        "leave_on_terminate": False,  # said by us when it is meant; an update is no goodbye
        "log_level": "warn",
    }


def write_config(place: Place, config: dict[str, Any]) -> None:
    """The file holds the RPC key: readable by its owner only. Raises OSError."""
    files.write_whole(place.config, json.dumps(config, indent=1).encode())


def argv(place: Place) -> tuple[str, ...]:
    """Raises EngineError when Serf is not installed."""
    program = shutil.which("serf")
    if program is None:
        raise EngineError("serf is not installed.", remedy="Install it: apt-get install serf.")
    return (
        sys.executable,
        "-m",
        "morgand.process.die_with_parent",
        program,
        "agent",
        "-config-file",
        str(place.config),
    )
