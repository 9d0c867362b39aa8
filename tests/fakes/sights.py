"""What a host's detector sees, as a test says."""

from __future__ import annotations

import asyncio

from morgand.state import Sight


class Eyes:
    """Everybody is well but for those that are given up."""

    def __init__(self) -> None:
        self.dead = set[str]()
        self.changed = asyncio.Event()

    def sight(self, host: str) -> Sight:
        return Sight(0.0, suspect=host in self.dead, dead=host in self.dead, well_s=0.0)

    async def see(self, *dead: str) -> None:
        """And let everybody who waits for it go on."""
        self.dead = set(dead)
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
        for _ in range(50):
            await asyncio.sleep(0)
