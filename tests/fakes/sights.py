"""What a host's detector sees, as a test says."""

from __future__ import annotations

import asyncio

from morgand.state.hosts import PeerHealth


class Eyes:
    """Everybody is well but for those that are quiet."""

    def __init__(self) -> None:
        self.quiet = set[str]()
        self.changed = asyncio.Event()

    def sight(self, host: str) -> PeerHealth:
        return PeerHealth(quiet=host in self.quiet)

    async def see(self, *quiet: str) -> None:
        """And let everybody who waits for it go on."""
        self.quiet = set(quiet)
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
        for _ in range(50):
            await asyncio.sleep(0)
