"""Tokens and codes as people type them."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from morgand.base.errors import InvalidInput
from morgand.security import tokens
from morgand.security.tokens import Code, Token
from morgand.security.words import WORDS

DIGEST = tokens.text(bytes(range(32)))
TEXT = tokens.write(Token(DIGEST, tokens.text(b"abcde"), tokens.text(b"0123456789abcdef")))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=5, max_size=5), st.binary(min_size=16, max_size=16))
def test_what_is_written_is_read(digest: bytes, name: bytes, secret: bytes) -> None:
    """A token comes back whole, in small letters and with the line breaks of a terminal, too."""
    token = Token(tokens.text(digest), tokens.text(name), tokens.text(secret))
    written = tokens.write(token)
    assert written.startswith(f"MRGN1-{token.digest}-")
    assert tokens.read(written) == token
    assert tokens.read(f"  {written[:40]}\n{written[40:].lower()} ") == token


@given(st.integers(0, len(TEXT) - 1), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_a_changed_character_is_noticed(position: int, letter: str) -> None:
    """No changed character goes to a host as a wrong try: it is noticed where it was typed."""
    changed = TEXT[:position] + letter + TEXT[position + 1 :]
    if changed != TEXT:
        with pytest.raises(InvalidInput):
            tokens.read(changed)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TEXT[:-1], "cut off: 96 of 97 characters"),
        (TEXT[:30], "cut off"),
        ("MRGN1-", "cut off"),
        (TEXT + "A", "a character was changed or added"),
        (TEXT.replace("MRGN1", "MRGN2"), "of version MRGN2, this morgand reads MRGN1"),
        ("", "neither"),
        ("hunter2", "neither"),
        ("7-coral-walnit", "did you mean 'walnut'"),
        ("7-coral-xqzv", "is in no code"),
        ("0-coral-walnut", "from 1 to 99"),
        ("100-coral-walnut", "from 1 to 99"),
    ],
)
def test_faults_are_named(text: str, words: str) -> None:
    """Each fault has its own words."""
    with pytest.raises(InvalidInput, match=words):
        tokens.read(text)


def test_codes_are_read_as_spoken() -> None:
    """Capitals and leading zeros do not matter."""
    assert tokens.read(" 07-Coral-WALNUT ") == Code("7-coral-walnut")


def test_codes_have_22_bits() -> None:
    """256 words that nobody confuses by one letter, twice, and 99 numbers; every part of a code varies."""
    assert len(WORDS) == len(set(WORDS)) == 256
    assert all(word.isascii() and word.islower() and 3 <= len(word) <= 9 for word in WORDS)
    assert not [pair for pair in combinations(WORDS, 2) if _close(*pair)]
    assert len(WORDS) ** 2 * tokens.NUMBERS >= 2**22
    codes = {tokens.spoken(number.to_bytes(8, "big")) for number in range(0, 2**64, 2**64 // 5000)}
    assert len({code.split("-")[0] for code in codes}) == 99
    assert all(tokens.read(code) == Code(code) for code in codes)


def test_secrets_are_not_shown() -> None:
    """Neither a token's nor a code's repr can leak into a log."""
    token = tokens.read(TEXT)
    assert isinstance(token, Token)
    assert token.secret not in repr(token)
    assert "coral" not in repr(tokens.read("7-coral-walnut"))


def _close(one: str, two: str) -> bool:
    """Whether one substitution, insertion or deletion makes them equal."""
    if len(one) > len(two):
        one, two = two, one
    if len(one) == len(two):
        return sum(a != b for a, b in zip(one, two, strict=True)) == 1
    return len(two) - len(one) == 1 and any(two[:at] + two[at + 1 :] == one for at in range(len(two)))
