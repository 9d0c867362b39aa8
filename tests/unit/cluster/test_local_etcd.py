"""What a host does about its own etcd."""

from __future__ import annotations

import pytest

from morgand.cluster.local_etcd import EtcdAction, act
from morgand.cluster.voters import (
    VoterRecord,
    VoterState,
)
from tests.unit.cluster.voting import record


@pytest.mark.parametrize(
    ("record", "prepared", "member", "listed", "expected"),
    [
        (None, False, "", False, EtcdAction.KEEP),
        (None, True, "", True, EtcdAction.KEEP),  # a founder nobody wrote down yet
        (None, True, "a1", False, EtcdAction.LEAVE),
        (record("a", VoterState.WANTED, ""), False, "", False, EtcdAction.KEEP),
        (record("a", VoterState.LEARNER), False, "", False, EtcdAction.JOIN),
        (record("a", VoterState.LEARNER), True, "a1", False, EtcdAction.KEEP),
        (record("a", VoterState.VOTER), True, "", False, EtcdAction.KEEP),
        (record("a", VoterState.LEARNER), True, "a0", False, EtcdAction.JOIN),  # with data of a former membership
        (
            record("a", VoterState.VOTER),
            False,
            "",
            False,
            EtcdAction.RESIGN,
        ),  # its data are gone, or older than its vote
        (record("a", VoterState.VOTER), True, "a0", False, EtcdAction.RESIGN),
        (
            record("a", VoterState.VOTER, ""),
            False,
            "",
            False,
            EtcdAction.JOIN,
        ),  # not yet noted down: refused until it is
    ],
)
def test_what_a_host_does_about_its_own_etcd(
    record: VoterRecord | None, prepared: bool, member: str, listed: bool, expected: EtcdAction
) -> None:
    assert act(record, prepared, member, listed) is expected
