"""The exchange over a spoken code."""

from __future__ import annotations

import hashlib

import pytest

from morgand.base.errors import InvalidInput, Unauthorized
from morgand.security import pake
from morgand.security.invitations import stretch

SALT = "00" * 16
RIGHT, WRONG = stretch("7-coral-walnut", SALT), stretch("8-coral-walnut", SALT)


def test_both_know_the_code() -> None:
    """Both sides come to one key, and what one seals the other opens."""
    offer = pake.PakeOffer(RIGHT)
    reply = pake.reply(RIGHT, offer.message)
    key = offer.accept(reply.message, reply.confirmation)
    assert key == reply.key
    sealed = pake.seal(key, b"the authority")
    assert b"authority" not in sealed
    assert pake.unseal(reply.key, sealed) == b"the authority"


@pytest.mark.parametrize(("host", "joiner"), [(RIGHT, WRONG), (WRONG, RIGHT)])
def test_one_does_not_know_the_code(host: bytes, joiner: bytes) -> None:
    """Either side that guesses wrong is noticed by the other, and opens nothing."""
    offer = pake.PakeOffer(host)
    reply = pake.reply(joiner, offer.message)
    assert offer.accept(reply.message, reply.confirmation) is None
    with pytest.raises(Unauthorized):
        pake.unseal(reply.key, pake.seal(hashlib.sha256(b"guess").digest(), b"a false authority"))


def test_exchanges_differ() -> None:
    """What was heard of one exchange is worth nothing in the next."""
    first, second = pake.PakeOffer(RIGHT), pake.PakeOffer(RIGHT)
    heard = pake.reply(RIGHT, first.message)
    assert second.accept(heard.message, heard.confirmation) is None


@pytest.mark.parametrize(
    "message",
    [b"", b"A", b"B" * 33, b"A" + bytes(32), b"B" + bytes(32), b"B" + b"\x01" + bytes(31), b"B" + b"\xff" * 32],
)
def test_nonsense_is_refused(message: bytes) -> None:
    """Points off the curve, of small order or of the wrong side are errors in words on both sides."""
    with pytest.raises(InvalidInput):
        pake.PakeOffer(RIGHT).accept(message, b"")
    with pytest.raises(InvalidInput):
        pake.reply(RIGHT, message)


def test_reflection_is_refused() -> None:
    """A host that is sent its own message notices."""
    offer = pake.PakeOffer(RIGHT)
    with pytest.raises(InvalidInput):
        offer.accept(b"B" + offer.message[1:], b"")


def test_sealed_answer_is_not_malleable() -> None:
    """A changed or cut answer is refused."""
    sealed = pake.seal(RIGHT, b"content")
    for changed in (sealed[:-1], sealed[:-1] + bytes([sealed[-1] ^ 1]), b"", sealed[:5]):
        with pytest.raises(Unauthorized):
            pake.unseal(RIGHT, changed)


def test_keys_are_not_shown() -> None:
    """A reply's repr has no key."""
    reply = pake.reply(RIGHT, pake.PakeOffer(RIGHT).message)
    assert reply.key.hex() not in repr(reply)
    assert repr(reply.key) not in repr(reply)
