"""Invitations: what is stored of one, and whether it lets somebody in. Decisions only; the caller stores their outcome.

The secret has 128 random bits, so one salted SHA-256 is enough (as with API keys). The code has 22: it is kept through
scrypt, only members can read it there, and it is worthless after 15 minutes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from morgand.security import tokens

LIFE = timedelta(minutes=15)
KEPT = timedelta(days=1)  # how long a dead invitation can still say why it is dead
TRIES = 3
SALT_BYTES = 16
ANOTHER = "Make another one with `morganctl cluster invite`."


@dataclass(frozen=True, slots=True)
class Invitation:
    """What stands under ``/invitations/ID``. ``granted`` proves like the secret; it is given to who knew the code."""

    id: str
    salt: str
    secret: str  # digest, hexadecimal
    code: str  # what SPAKE2 proves, hexadecimal
    created: datetime
    expires: datetime
    tries_left: int = TRIES
    used_by: str = ""
    revoked: bool = False
    granted: str = ""


@dataclass(frozen=True, slots=True)
class InvitationAccepted:
    invitation: Invitation


@dataclass(frozen=True, slots=True)
class InvitationRefused:
    """``burnt`` is the invitation with a try less, to be stored before the refusal is told; None when unchanged."""

    reason: str
    remedy: str
    burnt: Invitation | None = None


def make(now: datetime, entropy: Callable[[int], bytes] = secrets.token_bytes) -> tuple[Invitation, str, str]:
    """A record, its secret and its code, which are never readable again. Takes 50 ms of processor time."""
    name, secret = tokens.text(entropy(tokens.ID_BYTES)), tokens.text(entropy(tokens.SECRET_BYTES))
    salt, code = entropy(SALT_BYTES).hex(), tokens.spoken(entropy(tokens.CODE_BYTES))
    return Invitation(name, salt, _digest(secret, salt), stretch(code, salt).hex(), now, now + LIFE), secret, code


def stretch(code: str, salt: str) -> bytes:
    """The code as both sides of SPAKE2 use it."""
    return hashlib.scrypt(code.encode("ascii"), salt=bytes.fromhex(salt), n=2**14, r=8, p=1, dklen=32)


def check(found: Invitation | None, secret: str, now: datetime) -> InvitationAccepted | InvitationRefused:
    """Whether this secret opens this invitation. Who does not know the secret learns nothing of its fate."""
    if found is None:
        return InvitationRefused("There is no such invitation, or it is long over.", ANOTHER)
    given = _digest(secret, found.salt)
    if not any([hmac.compare_digest(given, one) for one in (found.secret, found.granted) if one]):  # noqa: C419 - all
        return wrong(found, now)
    return usable(found, now)


def usable(found: Invitation, now: datetime) -> InvitationAccepted | InvitationRefused:
    """For somebody who has proven to own it."""
    if found.used_by:
        return InvitationRefused(
            f"The invitation was used already, by host {found.used_by}; each is good for one.", ANOTHER
        )
    if found.revoked:
        return InvitationRefused("The invitation was withdrawn.", ANOTHER)
    if found.tries_left <= 0:
        return InvitationRefused(f"The invitation is locked: it was tried wrongly {TRIES} times.", ANOTHER)
    if now >= found.expires:
        return InvitationRefused(
            f"The invitation ended at {found.expires:%H:%M:%S} UTC, 15 minutes after it was made.", ANOTHER
        )
    return InvitationAccepted(found)


def wrong(found: Invitation, now: datetime) -> InvitationRefused:
    """For somebody who has proven not to own it: a try is burnt."""
    if not isinstance(usable(found, now), InvitationAccepted):
        return InvitationRefused("The invitation is not valid.", ANOTHER)
    left = found.tries_left - 1
    burnt = replace(found, tries_left=left)
    if left == 0:
        return InvitationRefused(f"The invitation is wrong, and now locked after {TRIES} wrong tries.", ANOTHER, burnt)
    return InvitationRefused(
        "The invitation is wrong.", f"Check what you typed; {left} {'try' if left == 1 else 'tries'} left.", burnt
    )


def used(found: Invitation, host_id: str) -> Invitation:
    return replace(found, used_by=host_id)


def grant(found: Invitation, secret: str) -> Invitation:
    """The invitation of somebody who proved the code, with a secret for the request that follows."""
    return replace(found, granted=_digest(secret, found.salt))


def over(found: Invitation, now: datetime) -> bool:
    """Whether it can be forgotten."""
    return now >= found.expires + KEPT


def _digest(secret: str, salt: str) -> str:
    return hmac.new(bytes.fromhex(salt), secret.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()
