"""Where API keys' records live: the cluster store, read from its copy in memory because every request asks."""

from __future__ import annotations

from collections.abc import Mapping

from morgand.cluster import codec, keys
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import ClusterStore, Put
from morgand.security.keys import KeyRecord


class StoredKeys:
    """Implements ``security.keys.KeyStore``."""

    def __init__(self, store: ClusterStore, mirror: Mirror) -> None:
        self._store = store
        self._mirror = mirror
        self._records: dict[str, KeyRecord] = {}
        self._revision = -1

    def load(self) -> Mapping[str, KeyRecord]:
        if self._revision != self._mirror.revision:
            items = self._mirror.list(keys.API_KEYS)
            records = [codec.decode(KeyRecord, item.value, key=item.key) for item in items]
            self._records, self._revision = {record.id: record for record in records}, self._mirror.revision
        return self._records

    async def put(self, record: KeyRecord) -> None:
        await self._mirror.until(await self._store.txn([], [Put(keys.api_key(record.id), codec.encode(record))]))

    async def remove(self, key_id: str) -> None:
        await self._mirror.until(await self._store.txn([], [], [keys.api_key(key_id)]))
