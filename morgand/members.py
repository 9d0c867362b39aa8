"""Who belongs to the cluster: invite, drain, resume, remove. Every change is one compare-and-swap in the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from morgand.api.schema import HostView, InvitationReply
from morgand.cluster import codec, keys
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import ClusterStore, Item, Put, Unchanged
from morgand.errors import Conflict, NotFound, StoreConflict
from morgand.observer import Observer
from morgand.state import HostState

ATTEMPTS = 5  # when the record changes under us: its state is the leader's to write


class Members:
    """Implements the API's ``Members``."""

    def __init__(
        self, *, store: ClusterStore, mirror: Mirror, observer: Observer, me: str,
        invite: Callable[[], Awaitable[InvitationReply]], revoke: Callable[[str], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._store, self._mirror, self._observer, self._me = store, mirror, observer, me
        self._invite, self._revoke = invite, revoke

    async def invite(self) -> InvitationReply:
        return await self._invite()

    async def drain(self, host: str, *, on: bool) -> HostView:
        for _ in range(ATTEMPTS):
            item, record = self._record(host)
            if record.draining != on:
                written = Put(item.key, codec.encode(replace(record, draining=on)))
                try:
                    revision = await self._store.txn([Unchanged(item.key, item.mod_revision)], [written])
                except StoreConflict:
                    await self._mirror.load()
                    continue
                await self._mirror.until(revision)
            views = (await self._observer.hosts()).hosts
            return next(view for view in views if view.id == record.id)
        raise StoreConflict(f"The record of {host} changed {ATTEMPTS} times meanwhile.", remedy="Try again.")

    async def remove(self, host: str, *, force: bool) -> str:
        item, record = self._record(host)
        if record.id == self._me:
            raise Conflict(f"{record.name} cannot remove itself.", remedy="Remove it from another host.")
        if not force:
            self._removable(record)
        await self._revoke(record.id)
        gone = [item.key, keys.profile(record.id), keys.status(record.id)]
        gone += [one.key for one in self._mirror.list(keys.ASSIGNMENTS) if one.key.endswith(f"/{record.id}")]
        await self._mirror.until(await self._store.txn([], [], gone))
        return record.id

    def _removable(self, record: codec.HostRecord) -> None:
        """Raises Conflict while removing it would stop or lose something."""
        held = sorted({one.key.split("/")[2] for one in self._mirror.list(keys.ASSIGNMENTS)
                       if one.key.endswith(f"/{record.id}")})  # fmt: skip
        if record.state is HostState.ALIVE and not record.draining:
            raise Conflict(f"{record.name} is there.", remedy=f"Drain it first: `morganctl hosts drain {record.name}`.")
        if held:
            raise Conflict(
                f"{record.name} still holds {', '.join(held)}; what only it has stored would be lost.",
                remedy="Switch it on and wait, or give up what it stores with --force.",
            )

    def _record(self, word: str) -> tuple[Item, codec.HostRecord]:
        """A host's record by name or id. Raises NotFound that names those there are."""
        found = [
            (item, codec.decode(codec.HostRecord, item.value, key=item.key)) for item in self._mirror.list(keys.HOSTS)
        ]
        for item, record in found:
            if word in (record.name, record.id):
                return item, record
        known = ", ".join(sorted(record.name for _, record in found))
        raise NotFound(f"There is no host '{word}'; there are {known}.")
