"""What a newcomer is given by the member it meets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from morgand.cluster import member_file
from morgand.cluster.member_file import MemberFile
from morgand.security import trust
from morgand.security.ca import Authority


class JoinMaterial:
    """Implements ``join_server.MaterialSource``. ``folder`` holds the credentials; ``member`` is it as it is now."""

    def __init__(
        self, folder: Path, member: Callable[[], MemberFile], authority: Callable[[], Awaitable[Authority]]
    ) -> None:
        self._folder, self._member, self._authority = folder, member, authority

    @property
    def cluster_id(self) -> str:
        return self._member().cluster

    @property
    def cluster_name(self) -> str:
        return self._member().cluster_name

    @property
    def ca_pem(self) -> bytes:
        return (self._folder / trust.CA).read_bytes()

    async def authority(self) -> Authority:
        return await self._authority()

    async def revoked(self) -> bytes:
        return await asyncio.to_thread(trust.read, self._folder / trust.CRL)

    def gossip_keys(self) -> Sequence[str]:
        return member_file.read_keyring(self._folder)

    def peers(self) -> Sequence[str]:
        return self._member().peers

    def etcd(self) -> Sequence[str]:
        return self._member().etcd
