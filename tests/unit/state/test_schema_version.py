"""Hosts of two versions in one cluster: what they may do, and what they read of each other."""

from __future__ import annotations

import pytest

from morgand.base.errors import MorganError
from morgand.cluster import codec
from morgand.cluster.codec import HostRecord
from morgand.state.hosts import HostState
from morgand.state.schema_version import Schema, agreed_post


def record(name: str, post: int, state: HostState = HostState.ALIVE) -> HostRecord:
    return HostRecord(name, name, "192.0.2.1", state=state, schema=Schema(9, post))


@pytest.mark.parametrize(
    ("members", "records", "expected"),
    [
        ((), [], 0),
        ((), [record("a", 3)], 3),  # a host alone has no members
        (("a", "b"), [record("a", 3), record("b", 2)], 2),
        (("a", "b"), [record("a", 3), record("b", 2, HostState.LEFT)], 2),  # it may come back as it was
        (("a", "b"), [record("a", 3)], 0),  # it was let in, and never started
        (("a",), [record("a", 3), HostRecord("b", "b", "192.0.2.2")], 0),  # an old program says nothing of it
    ],
)
def test_only_what_every_member_knows_is_agreed(
    members: tuple[str, ...], records: list[HostRecord], expected: int
) -> None:
    assert agreed_post(members, {one.id: one.schema for one in records}) == expected


def test_a_record_of_an_older_program_has_the_oldest_schema() -> None:
    """Fields that it did not know have their defaults."""
    found = codec.decode(HostRecord, b'{"id":"a","name":"attic","address":"192.0.2.1"}', key="/hosts/a")
    assert found == HostRecord("a", "attic", "192.0.2.1", schema=Schema(0, 0))


def test_a_record_of_a_newer_program_can_be_read() -> None:
    """What is not known in it is left alone, within values too."""
    newer = b'{"id":"a","name":"attic","address":"192.0.2.1","mood":{"x":[1]},"schema":{"pre":7,"post":2,"side":1}}'
    assert codec.decode(HostRecord, newer, key="/hosts/a") == HostRecord("a", "attic", "192.0.2.1", schema=Schema(7, 2))


def test_what_is_no_record_is_refused_by_its_key() -> None:
    with pytest.raises(MorganError, match="/hosts/a"):
        codec.decode(HostRecord, b'{"id":"a"}', key="/hosts/a")
