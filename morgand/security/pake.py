"""Proof of a short code without showing it: SPAKE2 (library ``spake2``), with confirmation and a sealed answer.

    host                                    joiner
    offer (SPAKE2 message A)        ->
                                    <-      reply (message B, confirmation)
    sealed answer                   ->

The joiner confirms first: whoever only listens or only asks learns nothing, and every guess costs the joiner's side a
reply that the host counts. The sealed answer can be opened only by who knew the code, and made only by who knew it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from spake2 import SPAKE2_A, SPAKE2_B, SPAKEError
from spake2.ed25519_basic import NotOnCurve

from morgand.base.errors import InvalidInput, Unauthorized

HOST, JOINER = b"morgan host", b"morgan joiner"
NONCE_BYTES = 12
MESSAGE_BYTES = 33


@dataclass(frozen=True, slots=True)
class PakeReply:
    """The joiner's answer to an offer; ``key`` stays with it."""

    message: bytes
    confirmation: bytes
    key: bytes = field(repr=False)


class PakeOffer:
    """The host's side of one exchange; good for one reply."""

    def __init__(self, stretched: bytes) -> None:
        """``stretched`` is the code after ``invitations.stretch``."""
        self._side = SPAKE2_A(stretched, idA=HOST, idB=JOINER)
        self.message: bytes = self._side.start()

    def accept(self, message: bytes, confirmation: bytes) -> bytes | None:
        """The session's key when the other side knew the code, else None. Raises InvalidInput for nonsense."""
        key = _finish(self._side, message)
        return key if hmac.compare_digest(_confirmation(key), confirmation) else None


def reply(stretched: bytes, offer: bytes) -> PakeReply:
    """The joiner's side. Raises InvalidInput for nonsense."""
    side = SPAKE2_B(stretched, idA=HOST, idB=JOINER)
    message = side.start()
    key = _finish(side, offer)
    return PakeReply(message, _confirmation(key), key)


def seal(key: bytes, content: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + ChaCha20Poly1305(_derived(key, b"sealed")).encrypt(nonce, content, None)


def unseal(key: bytes, sealed: bytes) -> bytes:
    """Raises Unauthorized when it was not sealed by who knew the code."""
    try:
        return ChaCha20Poly1305(_derived(key, b"sealed")).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], None)
    except (InvalidTag, ValueError) as err:
        raise Unauthorized("The other side does not know the code.", remedy="Ask for a new invitation.") from err


def _finish(side: SPAKE2_A | SPAKE2_B, message: bytes) -> bytes:
    if len(message) != MESSAGE_BYTES:
        raise InvalidInput("This is no message of SPAKE2.")
    try:
        return bytes(side.finish(message))
    except (SPAKEError, NotOnCurve, ValueError) as err:
        raise InvalidInput("This is no message of SPAKE2.") from err


def _confirmation(key: bytes) -> bytes:
    return hmac.new(_derived(key, b"confirmation"), JOINER, hashlib.sha256).digest()


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, None, b"morgan join " + purpose).derive(key)
