"""How an invitation is written down: a long token for terminals, a short code for people. Pure.

Token: ``MRGN1-<CA digest>-<id><secret><check>``, letters and digits of base32. The digest (52) lets the joiner know the
cluster before it trusts anything, the id (8) names the invitation, the secret (26, 128 bits) proves it, and the
check (4) tells a mistyped token from a wrong one before anybody is asked.
Code: ``7-coral-walnut``, 22 bits. That is enough only because it is proven by SPAKE2 (nothing to guess at offline),
good once and locked after three wrong tries.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import re
from dataclasses import dataclass, field

from morgand.base.errors import InvalidInput
from morgand.security.words import WORDS

VERSION = "MRGN1"
DIGEST, ID, SECRET, CHECK = 52, 8, 26, 4  # lengths in characters
ID_BYTES, SECRET_BYTES = 5, 16
NUMBERS = 99  # the code's number is 1 to this
CODE_BYTES = 8  # of entropy that make a code; more than it keeps, so that no number is likelier than another
AGAIN = "Copy the whole line that `morganctl cluster invite` printed."


@dataclass(frozen=True, slots=True)
class Token:
    """``digest`` is that of the cluster's CA certificate (``ca.digest``)."""

    digest: str
    invitation: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Code:
    text: str = field(repr=False)


def write(token: Token) -> str:
    """The long token."""
    body = f"{VERSION}-{token.digest}-{token.invitation}{token.secret}"
    return body + _check(body)


def spoken(entropy: bytes) -> str:
    """A code of ``CODE_BYTES`` random bytes."""
    value = int.from_bytes(entropy, "big")
    value, first = divmod(value, len(WORDS))
    value, second = divmod(value, len(WORDS))
    return f"{value % NUMBERS + 1}-{WORDS[first]}-{WORDS[second]}"


def text(entropy: bytes) -> str:
    """Random bytes in the token's alphabet."""
    return base64.b32encode(entropy).decode("ascii").rstrip("=")


def read(given: str) -> Token | Code:
    """What a person typed or pasted. Raises InvalidInput that says what is wrong with it."""
    found = "".join(given.split())
    if re.match(r"MRGN\d*-", found, re.IGNORECASE):
        return _token(found.upper())
    if re.fullmatch(r"\d+-[a-z]+-[a-z]+", found.lower()):
        return _code(found.lower())
    raise InvalidInput("This is neither an invitation's token (MRGN1-...) nor a code (7-coral-walnut).", remedy=AGAIN)


def _token(found: str) -> Token:
    version, _, rest = found.partition("-")
    if version != VERSION:
        raise InvalidInput(
            f"The token is of version {version}, this morgand reads {VERSION}.",
            remedy="Install the version of Morgan that the cluster runs.",
        )
    whole = len(VERSION) + 1 + DIGEST + 1 + ID + SECRET + CHECK
    if len(found) < whole:
        raise InvalidInput(f"The token is cut off: {len(found)} of {whole} characters.", remedy=AGAIN)
    body, check = found[:-CHECK], found[-CHECK:]
    digest, _, proof = rest[:-CHECK].partition("-")
    known = len(found) == whole and len(digest) == DIGEST and re.fullmatch("[A-Z2-7]+", digest + proof)
    if not known or _check(body) != check:
        raise InvalidInput("The token is not as it was printed: a character was changed or added.", remedy=AGAIN)
    return Token(digest, proof[:ID], proof[ID:])


def _code(found: str) -> Code:
    number, *words = found.split("-")
    for word in words:
        if word not in WORDS:
            close = difflib.get_close_matches(word, WORDS, n=1, cutoff=0.6)
            hint = f"did you mean '{close[0]}'?" if close else "ask for the code again."
            raise InvalidInput(f"'{word}' is in no code: {hint}")
    if not 1 <= int(number) <= NUMBERS:
        raise InvalidInput(f"A code begins with a number from 1 to {NUMBERS}, not with {number}.")
    return Code(f"{int(number)}-{words[0]}-{words[1]}")


def _check(body: str) -> str:
    return text(hashlib.sha256(body.encode("ascii", "replace")).digest())[:CHECK]
