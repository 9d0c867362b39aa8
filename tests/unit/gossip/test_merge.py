"""The agent's list of members as values."""

from __future__ import annotations

import socket

import pytest

from morgand.gossip.membership import merge
from morgand.gossip.serf import Record
from morgand.state.hosts import Member, MemberStatus

HOST: Record = {
    b"Name": b"host-1", b"Addr": socket.inet_aton("192.0.2.1"), b"Port": 7472, b"Tags": {b"n": b"attic"},
    b"Status": b"alive",
}  # fmt: skip
V6 = socket.inet_pton(socket.AF_INET6, "fd00::1")
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.1")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, Member("host-1", "192.0.2.1", MemberStatus.ALIVE, {"n": "attic"})),
        ({b"Status": b"leaving"}, Member("host-1", "192.0.2.1", MemberStatus.LEAVING, {"n": "attic"})),
        ({b"Addr": MAPPED}, Member("host-1", "192.0.2.1", MemberStatus.ALIVE, {"n": "attic"})),
        ({b"Addr": V6}, Member("host-1", "fd00::1", MemberStatus.ALIVE, {"n": "attic"})),
        ({b"Tags": {}}, Member("host-1", "192.0.2.1", MemberStatus.ALIVE, {})),
        ({b"Status": b"none"}, None),
        ({b"Addr": b"\1\2"}, None),
        ({b"Addr": None}, None),
        ({b"Tags": None}, None),
        ({b"Name": b"\xff"}, None),
    ],
)
def test_merge(told: Record, expected: Member | None) -> None:
    """A record becomes a member; one that makes no sense is left out and takes no other with it."""
    other = {**HOST, b"Name": b"host-2"}
    found = merge([{**HOST, **told}, other])
    assert found.get("host-1") == expected
    assert "host-2" in found
