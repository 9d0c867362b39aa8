"""Whether an invitation lets somebody in."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest

from morgand.security import invitations
from morgand.security.invitations import Invitation, InvitationAccepted, InvitationRefused

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MADE, SECRET, CODE = invitations.make(NOW)


def test_right_secret_opens() -> None:
    """For 15 minutes, to the second."""
    last = NOW + timedelta(minutes=15) - timedelta(microseconds=1)
    assert invitations.check(MADE, SECRET, last) == InvitationAccepted(MADE)
    refused = invitations.check(MADE, SECRET, NOW + timedelta(minutes=15))
    assert isinstance(refused, InvitationRefused)
    assert refused.reason.startswith("The invitation ended at 12:15:00 UTC")
    assert refused.burnt is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (invitations.used(MADE, "host-1"), "used already, by host host-1"),
        (replace(MADE, revoked=True), "withdrawn"),
        (replace(MADE, tries_left=0), "locked"),
    ],
)
def test_owner_is_told_why_not(changed: Invitation, reason: str) -> None:
    """Who has the secret hears the reason and the remedy; who has not hears nothing of it and burns nothing."""
    owner, other = invitations.check(changed, SECRET, NOW), invitations.check(changed, "A" * 26, NOW)
    assert isinstance(owner, InvitationRefused)
    assert isinstance(other, InvitationRefused)
    assert reason in owner.reason
    assert "morganctl cluster invite" in owner.remedy
    assert (other.reason, other.burnt) == ("The invitation is not valid.", None)


def test_third_wrong_try_locks() -> None:
    """Each wrong try is stored; after the third the right secret opens nothing."""
    found = MADE
    for left in (2, 1, 0):
        refused = invitations.check(found, "A" * 26, NOW)
        assert isinstance(refused, InvitationRefused)
        assert refused.burnt is not None
        found = refused.burnt
        assert found.tries_left == left
    assert isinstance(invitations.check(found, SECRET, NOW), InvitationRefused)


def test_unknown_invitation() -> None:
    """One that never was and one that was forgotten are refused alike."""
    refused = invitations.check(None, SECRET, NOW)
    assert isinstance(refused, InvitationRefused)
    assert refused.burnt is None


def test_granted_secret_opens_too() -> None:
    """Who proved the code continues with a secret of its own; the token's keeps its force until one is used."""
    granted = invitations.grant(MADE, "B" * 26)
    for secret in ("B" * 26, SECRET):
        assert invitations.check(granted, secret, NOW) == InvitationAccepted(granted)
    assert isinstance(invitations.check(MADE, "", NOW), InvitationRefused)
    assert isinstance(invitations.check(invitations.used(granted, "h"), "B" * 26, NOW), InvitationRefused)


def test_nothing_readable_is_stored() -> None:
    """The record holds digests, and two invitations share nothing."""
    stored = str(asdict(MADE))
    assert SECRET not in stored
    assert CODE not in stored
    other, secret, _ = invitations.make(NOW)
    assert len({MADE.id, other.id, MADE.salt, other.salt, MADE.secret, other.secret, SECRET, secret}) == 8


def test_dead_invitations_are_kept_a_day() -> None:
    """Long enough to say why they are dead."""
    assert not invitations.over(MADE, NOW + timedelta(hours=24))
    assert invitations.over(MADE, NOW + timedelta(hours=24, minutes=15))
