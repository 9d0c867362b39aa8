"""API keys: made here, shown once, stored as a digest.

A key is 32 random bytes. Slow password hashes exist to make guessing of low-entropy secrets dear; 256 random bits
cannot be guessed at any speed, so one SHA-256 is enough and costs a request microseconds instead of tens of
milliseconds.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import uuid4

from morgand.base.clock import Clock
from morgand.base.errors import NotFound

PREFIX = "mrgn_"
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is stored of a key. ``digest`` is the SHA-256 of the whole key text, hexadecimal."""

    id: str
    owner: str
    digest: str
    created: datetime
    expires: datetime | None = None


class KeyStore(Protocol):
    """Where records live. ``load`` answers from memory: it is asked on every request."""

    def load(self) -> Mapping[str, KeyRecord]: ...

    async def put(self, record: KeyRecord) -> None: ...

    async def remove(self, key_id: str) -> None: ...


class Keys:
    """Create, check, list and revoke."""

    def __init__(self, store: KeyStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def create(self, owner: str, *, expires_days: int | None = None) -> tuple[KeyRecord, str]:
        """A new record and the key itself, which is never readable again."""
        key = PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).rstrip(b"=").decode("ascii")
        now = self._clock.now()
        expires = None if expires_days is None else now + timedelta(days=expires_days)
        record = KeyRecord(str(uuid4()), owner, digest(key), now, expires)
        await self._store.put(record)
        return record, key

    def check(self, key: str) -> KeyRecord | None:
        """The record of a valid key, or None for one that is unknown or over its time.

        Every record is compared, each in constant time, so the time taken says nothing about any of them.
        """
        given = digest(key)
        found = None
        for record in self._store.load().values():
            if hmac.compare_digest(record.digest, given):
                found = record
        if found is None or (found.expires is not None and found.expires <= self._clock.now()):
            return None
        return found

    def list(self) -> list[KeyRecord]:
        return sorted(self._store.load().values(), key=lambda record: (record.created, record.id))

    async def revoke(self, key_id: str) -> None:
        """Raises NotFound."""
        if key_id not in self._store.load():
            raise NotFound(f"There is no API key '{key_id}'.", remedy="See `morganctl keys list`.")
        await self._store.remove(key_id)


def digest(key: str) -> str:
    """SHA-256 of a key, hexadecimal."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
