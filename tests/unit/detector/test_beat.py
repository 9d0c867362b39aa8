"""Beats on the wire: what was written is read, and nothing that was tampered with."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from morgand.detector.beat import VOTES_MAX, Beat, Stamp, decode, encode

KEY, OTHER = b"k" * 32, b"o" * 32
HOST = st.uuids().map(str)
STAMPS = st.builds(Stamp, st.integers(0, 2**63 - 1), st.integers(1, 2**63 - 1))
BEATS = st.builds(
    Beat, HOST, HOST, STAMPS, st.none() | STAMPS, st.integers(0, 0xFFFF), st.integers(0, 2**63 - 1), st.booleans(),
    st.lists(HOST, max_size=VOTES_MAX).map(tuple), st.booleans(),
)  # fmt: skip
ONE = Beat(
    str(uuid.UUID(int=1)), str(uuid.UUID(int=2)), Stamp(7, 8), Stamp(9, 10), 20, 10, True, (str(uuid.UUID(int=3)),)
)


@given(BEATS)
def test_what_was_written_is_read(beat: Beat) -> None:
    expected = beat if beat.heard else replace(beat, ago_ms=beat.ago_ms)
    assert decode(encode(beat, KEY), [OTHER, KEY]) == expected


@given(st.binary(max_size=400))
def test_noise_is_no_beat(data: bytes) -> None:
    assert decode(data, [KEY]) is None


@pytest.mark.parametrize("keys", [[], [OTHER]])
def test_without_the_key_it_is_nothing(keys: list[bytes]) -> None:
    assert decode(encode(ONE, KEY), keys) is None


def test_every_changed_bit_is_noticed() -> None:
    data = encode(ONE, KEY)
    for at in range(len(data) * 8):
        changed = bytearray(data)
        changed[at // 8] ^= 1 << at % 8
        assert decode(bytes(changed), [KEY]) is None
    assert all(decode(data[:end], [KEY]) is None for end in range(len(data)))


def test_a_beat_fits_one_packet() -> None:
    many = replace(ONE, votes=tuple(str(uuid.uuid4()) for _ in range(VOTES_MAX + 10)))
    data = encode(many, KEY)
    assert len(data) < 1400
    found = decode(data, [KEY])
    assert found is not None
    assert len(found.votes) == VOTES_MAX
