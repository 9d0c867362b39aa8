"""Tags are small whatever a host has, and decode from whatever another version says."""

from __future__ import annotations

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from morgand.gossip import tags
from morgand.state.hosts import Duty
from tests.fakes.clusters import profile

WORDS = st.text(max_size=300)


def test_what_is_said_is_heard() -> None:
    """A host's summary comes through the tags as it was."""
    has = profile(64, [24, 12], engines=("llama.cpp", "serf"), duty=Duty.SOMETIMES)
    said = tags.encode(has, name="attic", version="0.3.0", peer="192.0.2.7:7471", voter=True)
    assert tags.decode(said) == tags.TagSummary(
        name="attic", version="0.3.0", peer="192.0.2.7:7471", ram_mb=65536, vram_mb=(24576, 12288), cores=4,
        duty="sometimes", engines=("llama.cpp", "serf"), voter=True,
    )  # fmt: skip


@given(WORDS, WORDS, WORDS, st.lists(st.integers(0, 1000), max_size=64), st.lists(WORDS, max_size=40))
def test_always_small(name: str, version: str, peer: str, vram_gb: list[float], engines: list[str]) -> None:
    """Encoded as Serf does, with its leading byte, tags never take more than 400 bytes of the 512 there are."""
    said = tags.encode(profile(1 << 20, vram_gb, engines=engines), name=name, version=version, peer=peer, voter=True)
    assert 1 + len(msgpack.packb(said, use_bin_type=False)) <= tags.MAX_BYTES
    tags.decode(said)


@given(st.dictionaries(st.sampled_from([*"nvprcdgeo"]) | st.text(max_size=5), WORDS))
def test_nonsense_is_no_error(said: dict[str, str]) -> None:
    """What another version or a stranger says is read as far as it makes sense, and never fails."""
    found = tags.decode(said)
    assert found.ram_mb >= 0
    assert found.cores >= 0
