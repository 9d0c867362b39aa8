"""Perform the cache role here: a bounded cache in this process. Losing it loses nothing."""

from __future__ import annotations

from morgand.base.clock import Clock
from morgand.roles.base import EmbeddedService, RoleService


def service(clock: Clock) -> RoleService:
    """Always ready: the cache is there as soon as the daemon is."""
    return EmbeddedService(_nothing, _nothing, _nothing, clock)


async def _nothing() -> None:
    """Nothing to open, check or close."""
