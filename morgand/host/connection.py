"""What this host's own part needs to know of its connection to the cluster."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Connection(Protocol):
    """Filled by ``membership.connection``: whether others count on this host, and where they reach it."""

    @property
    def alone(self) -> bool:
        """Whether this host is a member of no cluster."""
        ...

    @property
    def leased(self) -> bool:
        """Whether the others count on this host: it may act for what only one host may do."""
        ...

    @property
    def peer_address(self) -> str:
        """Address and port of this host's API for hosts; empty while it is alone."""
        ...

    def next(self) -> asyncio.Event:
        """Set when other hosts are seen otherwise than at this call."""
        ...
