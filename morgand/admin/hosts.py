"""Who belongs to the cluster: invite, drain, resume, remove. Every change is one compare-and-swap in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from morgand.admin.status import StatusObserver
from morgand.api.schema import HostView, InvitationReply
from morgand.base.errors import Conflict, StoreConflict
from morgand.cluster import codec, keys
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import ClusterStore, Item, Put, Unchanged
from morgand.state.host_names import display_name, find, suffixes
from morgand.state.hosts import HostState

ATTEMPTS = 5  # when the record changes under us: its state is the leader's to write
VOTE_S = 20.0  # how long a host that is to be removed may take to hand over its vote
THERE = (HostState.ALIVE, HostState.SUSPECT)


class HostAdmin:
    """Implements the API's ``HostAdmin``."""

    def __init__(
        self, *, store: ClusterStore, mirror: Mirror, observer: StatusObserver, me: str,
        invite: Callable[[], Awaitable[InvitationReply]], revoke: Callable[[str], Awaitable[None]],
        vote_s: float = VOTE_S,
    ) -> None:  # fmt: skip
        self._store, self._mirror, self._observer, self._me = store, mirror, observer, me
        self._invite, self._revoke, self._vote_s = invite, revoke, vote_s

    async def invite(self) -> InvitationReply:
        return await self._invite()

    async def drain(self, host: str, *, on: bool) -> HostView:
        found = await self._mark(host, draining=on)
        views = (await self._observer.hosts()).hosts
        return next(view for view in views if view.id == found)

    async def remove(self, host: str, *, force: bool) -> str:
        _, record = self._record(host)
        if record.id == self._me:
            raise Conflict(f"{self._called(record)} cannot remove itself.", remedy="Remove it from another host.")
        if not force:
            self._removable(record)
        if record.state in THERE and self._votes(record.id):
            await self._mark(record.id, draining=True)
            await self._until_voteless(record)
        await self._revoke(record.id)
        gone = [keys.host(record.id), keys.profile(record.id), keys.status(record.id), keys.failures(record.id)]
        gone += [one.key for one in self._held_by(record.id)]
        await self._mirror.until(await self._store.txn([], [], gone))
        return record.id

    async def _mark(self, host: str, *, draining: bool) -> str:
        """The host's id. Raises NotFound, StoreConflict, Unavailable."""
        for _ in range(ATTEMPTS):
            item, record = self._record(host)
            if record.draining == draining:
                return record.id
            written = Put(item.key, codec.encode(replace(record, draining=draining)))
            try:
                revision = await self._store.txn([Unchanged(item.key, item.mod_revision)], [written])
            except StoreConflict:
                await self._mirror.load()
                continue
            await self._mirror.until(revision)
            return record.id
        raise StoreConflict(f"The record of {host} changed {ATTEMPTS} times meanwhile.", remedy="Try again.")

    def _removable(self, record: codec.HostRecord) -> None:
        """Raises Conflict while removing it would stop or lose something."""
        called = self._called(record)
        held = ", ".join(sorted({one.key.split("/")[2] for one in self._held_by(record.id)}))
        if record.state in THERE and not record.draining:
            raise Conflict(
                f"{called} is there.",
                remedy=f"Drain it first: `morganctl hosts drain {self._handle(record)}`.",
            )
        if held and record.state in THERE:
            raise Conflict(
                f"{called} still holds {held}: it is being moved, or no other host has what is stored there.",
                remedy="Wait while `morganctl status` shows it move. What `morganctl roles explain` says cannot move "
                "is lost with the host: give it up with --force.",
            )
        if held:
            raise Conflict(
                f"{called} has {held}, and is {record.state.value}; what only it has stored would be lost.",
                remedy="Switch it on and wait, or give up what it stores with --force.",
            )

    def _held_by(self, host: str) -> list[Item]:
        return [one for one in self._mirror.list(keys.ASSIGNMENTS) if one.key.endswith(f"/{host}")]

    def _votes(self, host: str) -> bool:
        return self._mirror.get(keys.voter(host)) is not None

    async def _until_voteless(self, record: codec.HostRecord) -> None:
        """Wait until etcd does without this host: once it is refused by the others, its vote is lost to them.

        Raises Conflict when that takes too long.
        """
        try:
            async with asyncio.timeout(self._vote_s):
                while True:
                    changed = self._mirror.next()
                    if not self._votes(record.id):
                        return
                    await changed.wait()
        except TimeoutError as err:
            raise Conflict(
                f"{self._called(record)} still votes: without it the other voters are no working majority.",
                remedy="Switch on the voters that are away (`morganctl status`), then remove it again.",
            ) from err

    def _names(self) -> dict[str, str]:
        """Ids to names, as the hosts themselves say."""
        return {host: record.name for host, record in self._mirror.view.hosts.items()}

    def _called(self, record: codec.HostRecord) -> str:
        return display_name(record.name, suffixes(self._names()).get(record.id, ""))

    def _handle(self, record: codec.HostRecord) -> str:
        return suffixes(self._names()).get(record.id, record.name)

    def _record(self, word: str) -> tuple[Item, codec.HostRecord]:
        """A host's record by name, id or the beginning of that. Raises NotFound, Conflict for a name of several."""
        view, host = self._mirror.view, find(self._names(), word)
        return view.items[keys.host(host)], view.hosts[host]
