"""Joining by spoken code: the exchanges that are open, bounded in number and time."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Protocol

import msgspec

from morgand.base.clock import Clock
from morgand.base.errors import InvalidInput, Overloaded, Unauthorized
from morgand.membership import join_schema as wire
from morgand.membership.invitations import Invitations
from morgand.security import pake
from morgand.security.invitations import ANOTHER

MAX_OPEN = 16
MAX_OPEN_FROM_ONE = 4  # so that one address cannot keep everybody else out
OPEN_S = 20.0


class CodeAuthority(Protocol):
    @property
    def ca_pem(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Exchange:
    began_s: float
    remote: str
    offers: tuple[tuple[str, pake.PakeOffer], ...]  # with the invitation's id


class Codes:
    """Offer, then judge one answer."""

    def __init__(self, invitations: Invitations, clock: Clock, authority: CodeAuthority) -> None:
        self._invitations, self._clock, self._authority = invitations, clock, authority
        self._open: dict[str, _Exchange] = {}

    async def offer(self, remote: str) -> wire.CodeOffers:
        """Begin an exchange. Raises Overloaded, Unauthorized when nobody is invited, Unavailable."""
        now_s = self._clock.monotonic()
        self._open = {name: one for name, one in self._open.items() if now_s - one.began_s < OPEN_S}
        from_one = sum(one.remote == remote for one in self._open.values())
        if len(self._open) >= MAX_OPEN or from_one >= MAX_OPEN_FROM_ONE:
            raise Overloaded("Too many hosts join by code at once.", retry_after_s=OPEN_S, remedy="Try again soon.")
        name = secrets.token_hex(16)
        self._open[name] = _Exchange(now_s, remote, ())  # the place is taken before anything is waited for
        found = await self._invitations.open()
        if not found:
            del self._open[name]
            raise Unauthorized("No invitation is open: each is good once and for 15 minutes.", remedy=ANOTHER)
        made = await asyncio.to_thread(lambda: [(one.id, pake.PakeOffer(bytes.fromhex(one.code))) for one in found])
        self._open[name] = _Exchange(now_s, remote, tuple(made))
        offers = [wire.CodeOffer(one.salt, side.message) for one, (_, side) in zip(found, made, strict=True)]
        return wire.CodeOffers(name, offers)

    async def answer(self, given: wire.CodeAnswers) -> wire.CodeReply:
        """Judge the one answer an exchange gets. Raises Unauthorized (a try is burnt), InvalidInput, Unavailable."""
        exchange = self._open.pop(given.exchange, None)
        if exchange is None or self._clock.monotonic() - exchange.began_s >= OPEN_S:
            raise Unauthorized("The exchange is over.", remedy="Type the code again.")
        if len(given.answers) != len(exchange.offers):
            raise InvalidInput("There must be one answer for each offer.")
        for number, ((invitation, side), one) in enumerate(zip(exchange.offers, given.answers, strict=True)):
            key = await asyncio.to_thread(_accepted, side, one)
            if key is not None:
                return wire.CodeReply(number, pake.seal(key, await self._granted(invitation)))
        raise await self._invitations.burn([invitation for invitation, _ in exchange.offers])

    async def _granted(self, invitation: str) -> bytes:
        secret = await self._invitations.grant(invitation)
        return msgspec.json.encode(wire.Grant(invitation, secret, self._authority.ca_pem.decode("ascii")))


def _accepted(side: pake.PakeOffer, answer: wire.CodeAnswer) -> bytes | None:
    """Nonsense is a wrong answer like any other: it costs a try."""
    try:
        return side.accept(answer.message, answer.confirmation)
    except InvalidInput:
        return None
