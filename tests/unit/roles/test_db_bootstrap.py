"""A database that was begun and never finished: found by what stands in the store."""

from __future__ import annotations

import pytest

from morgand.cluster import keys
from morgand.cluster.store import Item, QuietSince, Unchanged
from morgand.roles.db.bootstrap import abandoned, expendable, made, release
from morgand.roles.db.patroni_keys import Patroni


def said(revision: int = 9, **items: bytes) -> Patroni:
    found = {keys.PATRONI + name.replace("_", "/"): value for name, value in items.items()}
    return Patroni({key: Item(key, value, 7, 7) for key, value in found.items()}, revision)


IDLE = b'{"state":"stopped","role":"uninitialized"}'


@pytest.mark.parametrize(
    ("patroni", "claim"),
    [
        (said(initialize=b""), 7),
        (said(initialize=b"", members_h1=IDLE, members_h2=IDLE), 7),
        (said(initialize=b"7710634036392001067", members_h1=IDLE), 7),
        (said(members_h1=IDLE), None),
        (said(initialize=b"", members_h1=IDLE, members_h2=b'{"state":"initializing new cluster"}'), None),
        (said(initialize=b"", members_h1=b'{"state":"starting","role":"replica"}'), None),
        (said(initialize=b"", members_h1=b'{"state":"running","role":"primary"}'), None),
        (said(initialize=b"1", config=b"{}", members_h1=IDLE), None),
        (said(initialize=b"1", leader=b"h1", members_h1=IDLE), None),
    ],
)
def test_a_claim_that_nobody_works_at_is_abandoned(patroni: Patroni, claim: int | None) -> None:
    """Not while a member makes the database, and never once it was made: then somebody has it."""
    assert abandoned(patroni) == claim


def test_a_database_is_made_when_patroni_has_written_its_settings() -> None:
    assert not made(said(initialize=b"1"))
    assert made(said(initialize=b"1", config=b"{}"))


@pytest.mark.parametrize(
    ("patroni", "gone"),
    [
        (said(initialize=b"1"), True),  # it was begun, and broken off
        (said(initialize=b"1", config=b"{}", leader=b"h2"), True),  # another host made it in the end
        (said(initialize=b"1", config=b"{}", leader=b"h1"), False),  # this one did, a moment ago
        (said(initialize=b"1", config=b"{}"), False),  # who knows whose it is
        (said(config=b"{}", leader=b"h2", sync=b'{"leader":"h2","sync_standby":"h1"}'), False),
    ],
)
def test_data_that_were_never_whole_go_unless_somebody_counts_on_them(patroni: Patroni, gone: bool) -> None:
    """Patroni would never start on what was begun here when another host made the database (system ID mismatch)."""
    assert expendable(patroni, "h1") == gone


def test_a_claim_is_released_only_if_nothing_has_changed_meanwhile() -> None:
    """A member that begins just now has written something."""
    compares, key = release(said(9, initialize=b""), 7)
    assert key == keys.PATRONI + "initialize"
    assert compares == (Unchanged(key, 7), QuietSince(keys.PATRONI, 9))
