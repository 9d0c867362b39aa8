"""What a real standby has of the database, read there; with the real Patroni and etcd."""

from __future__ import annotations

import itertools
import os
from uuid import uuid4

import pytest
from sqlalchemy import text

from morgand.account import why_not
from morgand.errors import Fenced, Unavailable
from morgand.storage.history import SqlHistory
from tests.engines.patronis import trio, until
from tests.fakes.postgres import binaries
from tests.fakes.storage import HandClock

FOUND = binaries()
MISSING = "no PostgreSQL server is installed (initdb is not found)"
REASON = MISSING if FOUND is None else why_not(str(FOUND / "postgres"))
pytestmark = [pytest.mark.engine, pytest.mark.timeout(120), pytest.mark.skipif(REASON is not None, reason=str(REASON))]
NETS = itertools.count(40 + os.getpid() % 60)


async def test_a_standby_is_read_and_never_written() -> None:
    """It has what was acknowledged; the server itself refuses to write on these connections. It is withdrawn with the
    server, and while the data are only on their way into PostgreSQL it is not offered at all."""
    async with trio(next(NETS)) as town:
        first, second = (town.member(name) for name in ("h1", "h2"))
        first.epoch = 1
        first.start()
        await first.serving()
        second.whole = False
        second.start()
        await second.ready()
        await town.standing(lambda seen: any(one.sync for one in seen.values()), "a synchronous standby")
        turn = str(uuid4())
        await SqlHistory(first.database, HandClock()).store_message(turn, turn, "Hello", tokens=1, user=None)
        copied = SqlHistory(second.copy, HandClock())
        with pytest.raises(Unavailable):
            await copied.conversations()

        second.whole = True
        await until(lambda: second.copy.admits, "the copy offered")
        assert [one.id for one in await copied.conversations()] == [turn]
        with pytest.raises(Fenced):
            await copied.delete_conversation(turn)
        with pytest.raises(Unavailable, match="read-only"):
            async with second.copy.outside_transaction() as connection:
                await connection.execute(text("CREATE TABLE mine (id integer)"))

        await second.stop()
        with pytest.raises(Unavailable):
            await copied.conversations()
