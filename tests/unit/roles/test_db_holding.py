"""The database while this host is the primary: admitted in an epoch, and held without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from morgand.base.errors import Conflict, Unavailable
from morgand.roles.db.holding import Holding
from morgand.storage.database import COMING_LOOK_S, Database, sqlite_url
from morgand.storage.migrate import upgrade
from tests.fakes.storage import HandClock


class Waiting(HandClock):
    """Its sleeps do not end."""

    async def sleep(self, delay_s: float) -> None:
        await asyncio.Event().wait()


class Term:
    """What the assignment says."""

    def __init__(self) -> None:
        self.epoch: int | None = None


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A file stands for the server here: the rules are the same."""
    made = Database(sqlite_url(tmp_path / "db.sqlite"))
    await made.open()
    await upgrade(made)
    yield made
    await made.close()


async def served(database: Database) -> bool:
    try:
        async with database.read():
            return True
    except Unavailable:
        return False


async def test_nobody_is_admitted_before_the_assignment_says_so(database: Database) -> None:
    """Patroni may have made this host the primary before the cluster's leader has heard of it."""
    term = Term()
    holding = Holding(database, lambda: term.epoch, lambda: 0, Waiting())
    await holding.take(database.url)
    await holding.renew()
    assert not await served(database)
    term.epoch = 4
    await holding.renew()
    assert await served(database)
    await holding.close()


async def test_who_comes_a_moment_before_it_is_admitted_waits(database: Database) -> None:
    """Whoever asks knows by the assignment only who is to be the primary."""
    holding = Holding(database, lambda: 4, lambda: 0, Waiting())
    database.hold()
    asking = asyncio.create_task(served(database))
    await asyncio.sleep(3 * COMING_LOOK_S)
    assert not asking.done()
    await holding.take(database.url)
    await holding.renew()
    assert await asking
    await holding.close()


async def test_nobody_waits_long_for_what_does_not_come_nor_for_what_was_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was lost may come at another host."""
    monkeypatch.setattr("morgand.storage.database.COMING_S", 0.2)
    term = Term()
    term.epoch = 4
    holding = Holding(database, lambda: term.epoch, lambda: 0, Waiting())
    database.hold()
    assert not await served(database)
    await holding.take(database.url)
    await holding.renew()
    monkeypatch.setattr("morgand.storage.database.COMING_S", 60.0)
    async with asyncio.timeout(10):
        holding.lose()
        assert not await served(database)
        term.epoch = 5
        asking = asyncio.create_task(served(database))
        await asyncio.sleep(COMING_LOOK_S)
        term.epoch = None
        assert not await asking
    await holding.close()


async def test_without_its_assignment_it_is_held(database: Database) -> None:
    term = Term()
    term.epoch = 4
    holding = Holding(database, lambda: term.epoch, lambda: 0, Waiting())
    await holding.take(database.url)
    await holding.renew()
    assert await served(database)
    term.epoch = None
    await holding.renew()
    assert not await served(database)
    term.epoch = 5
    await holding.renew()
    assert await served(database)
    await holding.close()


async def test_a_lost_primary_is_held_at_once_and_taken_again(database: Database) -> None:
    """Also with the same epoch, when the server was only away."""
    holding = Holding(database, lambda: 4, lambda: 0, Waiting())
    await holding.take(database.url)
    await holding.renew()
    holding.lose()
    assert not await served(database)
    assert not holding.taken
    await holding.take(database.url)
    await holding.renew()
    assert await served(database)
    await holding.close()


async def test_a_database_that_was_never_taken_is_left_alone(database: Database) -> None:
    """A standby's host may still perform the role with a file."""
    holding = Holding(database, lambda: None, lambda: 0, Waiting())
    holding.lose()
    await holding.close()
    assert await served(database)


async def test_what_a_newer_program_took_away_is_not_done_without(database: Database) -> None:
    """Nobody is admitted, and the reason says what to do."""
    await stamp(database, "post_9999")
    holding = Holding(database, lambda: 4, lambda: 0, Waiting())
    with pytest.raises(Conflict, match="newer version of Morgan"):
        await holding.take(database.url)
    assert not await served(database)
    await holding.close()


async def test_what_a_newer_program_added_is_in_nobodys_way(database: Database) -> None:
    await stamp(database, "pre_9999")
    holding = Holding(database, lambda: 4, lambda: 0, Waiting())
    await holding.take(database.url)
    await holding.renew()
    assert await served(database)
    await holding.close()


async def stamp(database: Database, revision: str) -> None:
    async with database.write() as session:
        await session.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})
