"""A heartbeat and its bytes. Pure.

Layout, big-endian, sizes in bytes: version (1), sender and receiver (16 each, UUIDs), boot and seq (8 each), the
receiver's boot and seq last heard (8 each) and how many milliseconds ago (2), the seq granted (8), flags (1), number of
votes (1), a UUID (16) for each, BLAKE2b keyed hash (16; RFC 7693). Whoever has no key makes none and changes none; a
replayed one is told by its sequence number, and by echoing nothing recent.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from uuid import UUID

VERSION = 1
VOTES_MAX = 64
_HEAD = struct.Struct(">B16s16sQQQQHQBB")
_TAG = 16
_JOINED, _LAPSED = 1, 2


@dataclass(frozen=True, slots=True)
class Stamp:
    """A beat among all beats: ``boot`` is chosen at random at every start, ``seq`` counts up from 1."""

    boot: int
    seq: int


@dataclass(frozen=True, slots=True)
class Beat:
    """What one host tells another every ``BEAT_S``.

    ``heard`` is the receiver's last beat that has come in, ``ago_ms`` ago. ``granted`` is the last beat of that boot
    for which the sender promised not to vote for a while; 0 for none. ``joined``: the
    sender and a majority of the voters hear each other. ``votes`` are the hosts it holds for dead. ``lapsed``: the
    sender has no lease, and will count no grant of this beat or an earlier one.
    """

    sender: str
    receiver: str
    stamp: Stamp
    heard: Stamp | None = None
    ago_ms: int = 0
    granted: int = 0
    joined: bool = False
    votes: tuple[str, ...] = ()
    lapsed: bool = False


def encode(beat: Beat, key: bytes) -> bytes:
    heard = beat.heard or Stamp(0, 0)
    votes = beat.votes[:VOTES_MAX]
    flags = (_JOINED if beat.joined else 0) | (_LAPSED if beat.lapsed else 0)
    head = _HEAD.pack(
        VERSION, UUID(beat.sender).bytes, UUID(beat.receiver).bytes, beat.stamp.boot, beat.stamp.seq,
        heard.boot, heard.seq, min(beat.ago_ms, 0xFFFF), beat.granted, flags, len(votes),
    )  # fmt: skip
    body = head + b"".join(UUID(one).bytes for one in votes)
    return body + _tag(body, key)


def decode(data: bytes, keys: Sequence[bytes]) -> Beat | None:
    """None for what was not made with one of the keys, or by another version."""
    body, tag = data[:-_TAG], data[-_TAG:]
    if len(body) < _HEAD.size or not any(hmac.compare_digest(tag, _tag(body, key)) for key in keys):
        return None
    version, sender, receiver, boot, seq, heard_boot, heard_seq, ago_ms, granted, flags, count = _HEAD.unpack_from(body)
    if version != VERSION or len(body) != _HEAD.size + 16 * count:
        return None
    votes = (body[at : at + 16] for at in range(_HEAD.size, len(body), 16))
    return Beat(
        str(UUID(bytes=sender)), str(UUID(bytes=receiver)), Stamp(boot, seq),
        Stamp(heard_boot, heard_seq) if heard_seq else None, ago_ms, granted, bool(flags & _JOINED),
        tuple(str(UUID(bytes=one)) for one in votes), bool(flags & _LAPSED),
    )  # fmt: skip


def _tag(body: bytes, key: bytes) -> bytes:
    return blake2b(body, key=key, digest_size=_TAG, person=b"morgan-beat").digest()
