"""What of this host its part in a cluster needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from morgand.config import Config
from morgand.peers.wire import Export
from morgand.state.hosts import Profile


@dataclass(frozen=True, slots=True)
class MembershipContext:
    """What of this host its links need."""

    name: str
    folder: Path  # DATA_DIR/cluster
    spool: Path
    run: Path  # sockets and what lives as long as the daemon
    logs: Path
    config: Callable[[], Config]
    profile: Callable[[], Profile]
    exports: Mapping[str, Export]
