"""Where API keys' records live: the cluster store, kept in memory because every request asks."""

from __future__ import annotations

from collections.abc import Mapping

from morgand.cluster import codec, keys
from morgand.cluster.store import ClusterStore, Put
from morgand.security.keys import KeyRecord


class StoredKeys:
    """Implements ``security.keys.KeyStore``; ``run`` follows what other hosts create and revoke."""

    def __init__(self, store: ClusterStore) -> None:
        self._store = store
        self._records: dict[str, KeyRecord] = {}

    def load(self) -> Mapping[str, KeyRecord]:
        return self._records

    async def put(self, record: KeyRecord) -> None:
        await self._store.txn([], [Put(keys.api_key(record.id), codec.encode(record))])
        await self.refresh()

    async def remove(self, key_id: str) -> None:
        await self._store.txn([], [], [keys.api_key(key_id)])
        await self.refresh()

    async def refresh(self) -> int:
        """Read all records; returns the revision they were read at."""
        items, revision = await self._store.list(keys.API_KEYS)
        records = [codec.decode(KeyRecord, item.value, key=item.key) for item in items]
        self._records = {record.id: record for record in records}
        return revision

    async def run(self) -> None:
        """Follow changes until cancelled."""
        revision = await self.refresh()
        async for _ in self._store.watch(keys.API_KEYS, revision):
            await self.refresh()
