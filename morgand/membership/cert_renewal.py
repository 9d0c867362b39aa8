"""A member's upkeep of its own certificate: the next one at two thirds, and at once when its address changes.

The key stays: only one file is replaced, so key and certificate fit together at every moment (etcd reads both anew
with every connection).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from morgand.base import files
from morgand.base.clock import Clock
from morgand.base.errors import MorganError
from morgand.membership import join_schema as wire
from morgand.membership.join_client import JoinClient, parse_target
from morgand.security import ca, trust

log = logging.getLogger("morgand.renewal")

LOOK_EVERY_S = 60.0
RETRY_S = 600.0


class CertificateRenewal:
    """``address`` is the host's own now, ``peers`` are members' APIs (``ip:port``), ``renewed`` is told afterwards:
    contexts in use are to be reloaded."""

    def __init__(
        self, folder: Path, *, address: Callable[[], str], peers: Callable[[], Sequence[str]], clock: Clock,
        renewed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._folder, self._address, self._peers, self._clock, self._renewed = folder, address, peers, clock, renewed

    async def run(self) -> None:
        """Until cancelled. A member that nobody renews goes on with what it has for ten days."""
        failed = False
        while True:
            try:
                await self.step()
                failed = False
            except MorganError as err:
                if not failed:
                    log.warning("certificate not renewed", extra={"reason": str(err)})
                failed = True
            await self._clock.sleep(RETRY_S if failed else LOOK_EVERY_S)

    async def step(self) -> bool:
        """Renew if it is time; whether it was. Raises the last member's refusal, ConfigError for damaged files."""
        now, address = self._clock.now(), self._address()
        facts = ca.facts(await asyncio.to_thread(self._read, trust.CERT))
        if not ca.due(facts, address, now):
            return False
        csr = ca.make_request(await asyncio.to_thread(self._read, trust.KEY), facts.host).decode("ascii")
        certificate = await self._ask(wire.CertificateRequest(csr, address))
        await asyncio.to_thread(files.write_private, self._folder / trust.CERT, certificate)
        self._renewed()
        log.info("certificate renewed", extra={"until": ca.facts(certificate).not_after.isoformat()})
        return True

    async def _ask(self, request: wire.CertificateRequest) -> bytes:
        refusal = MorganError("No member is known that could renew the certificate.")
        async with JoinClient(self._clock) as meeting:
            for peer in self._peers():
                try:
                    return await meeting.renew(parse_target(peer, 0), self._folder, request)
                except MorganError as err:
                    refusal = err
        raise refusal

    def _read(self, name: str) -> bytes:
        return trust.read(self._folder / name)
