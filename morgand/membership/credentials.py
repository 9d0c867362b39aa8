"""A member's credentials in use: TLS contexts that follow its certificate and the list of those that are revoked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from morgand.base import files
from morgand.base.clock import Clock
from morgand.base.errors import StorageFull, Unavailable
from morgand.cluster import codec, keys
from morgand.cluster.member_file import MemberFile
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import ClusterStore
from morgand.membership.cert_renewal import CertificateRenewal
from morgand.security import ca, trust
from morgand.security.ca import Authority


class Credentials:
    """``heed_revocations`` and ``renewal`` are tasks. ``client`` and ``server`` are good for as long as those run."""

    def __init__(
        self, folder: Path, member: Callable[[], MemberFile], *, store: ClusterStore, mirror: Mirror, clock: Clock
    ) -> None:
        """``folder`` holds the files; ``member`` is this host as it is now. Raises ConfigError."""
        self._folder, self._member = folder, member
        self._store, self._mirror, self._clock = store, mirror, clock
        self.client = trust.client_context(folder)
        self.server = trust.server_context(folder, require_cert=False)

    async def authority(self) -> Authority:
        """Raises Unavailable."""
        item = await self._store.get(keys.AUTHORITY)
        if item is None:
            raise Unavailable("The cluster's authority is not known here.")
        return codec.decode(Authority, item.value, key=item.key)

    def renewal(self) -> CertificateRenewal:
        """The upkeep of this host's own certificate."""
        return CertificateRenewal(
            self._folder, address=lambda: self._member().address, peers=lambda: self._member().peers,
            clock=self._clock, renewed=self._reload,
        )  # fmt: skip

    async def heed_revocations(self) -> None:
        """The list of certificates that are no longer good: for etcd, which reads the file, and for us."""
        written: list[str] | None = None
        while True:
            changed = self._mirror.next()
            listed = [item.key.removeprefix(keys.REVOKED) for item in self._mirror.list(keys.REVOKED)]
            if listed != written:
                with contextlib.suppress(Unavailable, StorageFull):
                    await self._write_revoked(listed)
                    written = listed
            await changed.wait()

    async def _write_revoked(self, serials: Sequence[str]) -> None:
        crl = ca.revocation_list(await self.authority(), serials, self._clock.now())
        await asyncio.to_thread(files.write_private, self._folder / trust.CRL, crl)
        self._reload()

    def _reload(self) -> None:
        for context in (self.client, self.server):
            trust.reload(context, self._folder)
