"""The compact profile that gossip carries: a few short tags, under 400 bytes (Serf allows 512 encoded). Pure.

Everything here is a hint. What cannot be read (another version, nonsense) is left out, never an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from morgand.state.hosts import Profile

MAX_BYTES = 400
NAME_CHARS, VERSION_CHARS, PEER_CHARS = 40, 24, 64  # of at most 4 bytes each
OVERHEAD_BYTES = 3  # of a key and of a value in msgpack, at most
OPTIONAL = ("e", "g", "n", "v", "p")  # dropped in this order when it gets too much


@dataclass(frozen=True, slots=True)
class TagSummary:
    """What a member says of itself."""

    name: str = ""
    version: str = ""
    peer: str = ""  # address and port of its API for hosts
    ram_mb: int = 0
    vram_mb: tuple[int, ...] = ()
    cores: int = 0
    duty: str = "always"
    engines: tuple[str, ...] = ()
    voter: bool = False


def encode(profile: Profile, *, name: str, version: str, peer: str, voter: bool) -> dict[str, str]:
    """Tags of at most ``MAX_BYTES``; what is least needed is left out first."""
    tags = {
        "n": name[:NAME_CHARS], "v": version[:VERSION_CHARS], "p": peer[:PEER_CHARS],
        "r": str(profile.ram_mb), "c": str(profile.cpu_cores),
        "d": profile.duty.value[0], "g": ",".join(str(gpu.vram_mb) for gpu in profile.gpus),
        "e": ",".join(engine.name for engine in profile.engines), "o": "1" if voter else "0",
    }  # fmt: skip
    for key in OPTIONAL:
        if size(tags) <= MAX_BYTES:
            break
        del tags[key]
    return tags


def size(tags: Mapping[str, str]) -> int:
    """Bytes of the encoded tags, at most."""
    return sum(len(key.encode()) + len(value.encode()) + 2 * OVERHEAD_BYTES for key, value in tags.items())


def decode(tags: Mapping[str, str]) -> TagSummary:
    return TagSummary(
        name=tags.get("n", ""), version=tags.get("v", ""), peer=tags.get("p", ""), ram_mb=_number(tags.get("r")),
        vram_mb=tuple(_number(one) for one in _words(tags.get("g"))), cores=_number(tags.get("c")),
        duty="sometimes" if tags.get("d") == "s" else "always", engines=_words(tags.get("e")),
        voter=tags.get("o") == "1",
    )  # fmt: skip


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word for word in (text or "").split(",") if word)


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 12 else 0
