"""The heartbeat process, tick by tick."""

from __future__ import annotations

import itertools
import secrets
import socket
import uuid
from pathlib import Path

import pytest

from morgand.detector import process
from morgand.detector.beat import Beat, Stamp, decode, encode

ME, OTHER = (str(uuid.UUID(int=number)) for number in (1, 2))
KEY = b"k" * 32


def test_what_came_in_during_a_tick_is_not_from_the_future(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a backlog takes time: a beat heard while it is read is answered with an age that is not negative."""
    slow = itertools.count(1000.0, 0.05)
    monkeypatch.setattr(process, "now_s", lambda: next(slow))
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        mine = probe.getsockname()
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(10)
        one = process.Process(tmp_path / "s", tmp_path / "lease")
        orders = {"me": ME, "address": mine[0], "port": mine[1], "keys": [KEY.hex()], "voters": [ME, OTHER]}
        one._obey({**orders, "peers": {OTHER: ["127.0.0.1", peer.getsockname()[1], True]}})
        boot = secrets.randbits(63)
        answered = []
        for seq in range(1, 4):
            one._tick()
            said = decode(peer.recv(2048), [KEY])
            assert said is not None
            answered.append(said.heard)
            peer.sendto(encode(Beat(OTHER, ME, Stamp(boot, seq), heard=said.stamp), KEY), mine)
        assert one._air is not None
        one._air.close()
        one._listener.close()
    assert answered == [None, Stamp(boot, 1), Stamp(boot, 2)]
