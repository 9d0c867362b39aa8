"""Invitations in the cluster store. Every verdict is a compare-and-swap before it is told: of two who come with one
invitation one wins, and a wrong try is burnt before anybody hears that it was wrong."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence

from morgand.base.clock import Clock
from morgand.base.errors import StoreConflict, Unauthorized
from morgand.cluster import codec, keys
from morgand.cluster.store import ClusterStore, Compare, Put, Unchanged
from morgand.security import invitations, tokens
from morgand.security.invitations import Invitation, InvitationAccepted, InvitationRefused

log = logging.getLogger("morgand.join")

ATTEMPTS = 10
MAX_CODES = 4  # invitations one spoken code is tried against: a person rarely has two open

Found = tuple[Invitation | None, int]  # with the revision that last wrote it


class Invitations:
    """Make, check, use."""

    def __init__(self, store: ClusterStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def make(self) -> tuple[Invitation, str, str]:
        """A stored invitation, its secret and its code; those long over are removed. Raises Unavailable."""
        made = await asyncio.to_thread(invitations.make, self._clock.now())
        items, _ = await self._store.list(keys.INVITATIONS)
        old = [item.key for item in items if invitations.over(_decoded(item.value, item.key), self._clock.now())]
        await self._store.txn([], [Put(keys.invitation(made[0].id), codec.encode(made[0]))], old)
        log.info("invited", extra={"invitation": made[0].id, "expires": made[0].expires.isoformat()})
        return made

    async def check(self, invitation_id: str, secret: str) -> tuple[Invitation, Compare]:
        """The invitation, and what must hold when it is used. Raises Unauthorized with the reason, Unavailable."""
        return await self._settle(
            invitation_id, lambda found: invitations.check(found, secret, self._clock.now())
        )  # fmt: skip

    async def grant(self, invitation_id: str) -> str:
        """A fresh secret for somebody who has proven its code. Raises Unauthorized, Unavailable."""
        secret = tokens.text(secrets.token_bytes(tokens.SECRET_BYTES))
        for _ in range(ATTEMPTS):
            found, compare = await self._settle(invitation_id, self._usable)
            granted = invitations.grant(found, secret)
            try:
                await self._store.txn([compare], [Put(keys.invitation(found.id), codec.encode(granted))])
            except StoreConflict:
                continue
            return secret
        raise _contended()

    async def burn(self, invitation_ids: Sequence[str]) -> Unauthorized:
        """A wrong code costs every invitation it was tried against a try. The refusal to tell; raises Unavailable."""
        worst: Unauthorized | None = None
        for one in invitation_ids:
            try:
                await self._settle(one, self._wrong)
            except Unauthorized as err:
                worst = worst or err
        return worst or _told(invitations.check(None, "", self._clock.now()))

    async def open(self) -> list[Invitation]:
        """Those that can be used now, the newest first, ``MAX_CODES`` at most."""
        items, _ = await self._store.list(keys.INVITATIONS)
        every = [_decoded(item.value, item.key) for item in items]
        usable = [one for one in every if isinstance(invitations.usable(one, self._clock.now()), InvitationAccepted)]
        return sorted(usable, key=lambda one: one.created, reverse=True)[:MAX_CODES]

    def _usable(self, found: Invitation | None) -> InvitationAccepted | InvitationRefused:
        now = self._clock.now()
        return invitations.usable(found, now) if found is not None else invitations.check(None, "", now)

    def _wrong(self, found: Invitation | None) -> InvitationRefused:
        now = self._clock.now()
        if found is None:
            return InvitationRefused("The invitation is not valid.", invitations.ANOTHER)
        return invitations.wrong(found, now)

    async def _settle(
        self, invitation_id: str, decide: Callable[[Invitation | None], InvitationAccepted | InvitationRefused]
    ) -> tuple[Invitation, Compare]:
        """Decide on the record as it is; store a burnt try before it is told. Raises Unauthorized, Unavailable."""
        key = keys.invitation(invitation_id)
        for _ in range(ATTEMPTS):
            item = await self._store.get(key)
            verdict = decide(_decoded(item.value, key) if item else None)
            compare = Unchanged(key, item.mod_revision if item else 0)
            if isinstance(verdict, InvitationAccepted):
                return verdict.invitation, compare
            if verdict.burnt is not None:
                try:
                    await self._store.txn([compare], [Put(key, codec.encode(verdict.burnt))])
                except StoreConflict:
                    continue
                left = verdict.burnt.tries_left
                log.warning("wrong invitation", extra={"invitation": verdict.burnt.id, "tries_left": left})
            raise _told(verdict)
        raise _contended()


def _told(verdict: InvitationAccepted | InvitationRefused) -> Unauthorized:
    assert isinstance(verdict, InvitationRefused)
    return Unauthorized(verdict.reason, remedy=verdict.remedy)


def _contended() -> StoreConflict:
    return StoreConflict("Too many hosts use this invitation at once.", remedy="Try again.")


def _decoded(value: bytes, key: str) -> Invitation:
    return codec.decode(Invitation, value, key=key)
