"""How this machine announces its sleep and its shutdown."""

from __future__ import annotations

import logging
import sys

from morgand.host.power.events import PowerEvents, Tell
from morgand.host.power.logind import Logind

log = logging.getLogger("morgand.goodbye")


def power_events(platform: str = sys.platform) -> PowerEvents:
    """This machine's."""
    return Logind() if platform == "linux" else Unannounced()


class Unannounced:
    """A machine that Morgan does not hear leave."""

    async def run(self, _notify: Tell) -> None:
        log.info("sleep and shutdown are not announced here")
