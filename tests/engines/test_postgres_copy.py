"""What a real standby has of the database, read there; with the real Patroni and etcd."""

from __future__ import annotations

import itertools
import os
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text

from morgand.base.errors import Fenced, Unavailable
from morgand.process.account import why_not
from morgand.roles.db import files
from morgand.roles.db.promotion import ServerState
from morgand.roles.db.refetch import STUCK_S
from morgand.roles.db.server import LocalServer
from morgand.roles.db.site import SUPERUSER
from morgand.state.roles import RoleState
from morgand.storage.history import SqlHistory
from tests.engines.patronis import SECRETS, Member, trio, until
from tests.fakes.postgres import binaries
from tests.fakes.storage import HandClock

FOUND = binaries()
MISSING = "no PostgreSQL server is installed (initdb is not found)"
REASON = MISSING if FOUND is None else why_not(str(FOUND / "postgres"))
pytestmark = [pytest.mark.engine, pytest.mark.skipif(REASON is not None, reason=str(REASON))]
RENEWED = "copy of the database fetched anew"
NETS = itertools.count(40 + os.getpid() % 60)


async def test_a_standby_is_read_and_never_written(caplog: pytest.LogCaptureFixture) -> None:
    """It has what was acknowledged; the server itself refuses to write on these connections. It is withdrawn with the
    server, and while the data are only on their way into PostgreSQL it is not offered at all. When it comes back too
    late to follow, it is made anew."""
    async with trio(next(NETS)) as town:
        first, second = (town.member(name) for name in ("h1", "h2"))
        first.epoch = 1
        first.start()
        await first.serving()
        second.whole = False
        second.start()
        await town.standing(lambda seen: any(one.sync for one in seen.values()), "a synchronous standby")
        turn = str(uuid4())
        await SqlHistory(first.database, HandClock()).store_message(turn, turn, "Hello", tokens=1, user=None)
        copied = SqlHistory(second.copy, HandClock())
        with pytest.raises(Unavailable):
            await copied.conversations()

        assert second.state is RoleState.STARTING
        second.whole = True
        await second.ready()
        await until(lambda: second.copy.admits, "the copy offered")
        assert [one.id for one in await copied.conversations()] == [turn]
        with pytest.raises(Fenced):
            await copied.delete_conversation(turn)
        with pytest.raises(Unavailable, match="read-only"):
            async with second.copy.outside_transaction() as connection:
                await connection.execute(text("CREATE TABLE mine (id integer)"))

        await stirred(first, second)
        await second.stop()
        with pytest.raises(Unavailable):
            await copied.conversations()
        await without_old_log(first)
        second.start()
        await until(lambda: RENEWED in caplog.messages, "a new copy", second.log)
        assert all(one.__dict__["stuck_s"] < STUCK_S for one in caplog.records if one.getMessage() == RENEWED)
        await second.ready()
        assert [one.id for one in await copied.conversations()] == [turn]


async def stirred(primary: Member, standby: Member) -> None:
    """There is something new for the standbys, at once, although the one that every commit waits for stands still."""
    server = LocalServer(primary.site, SECRETS, files.socket_folder(primary.site.folder))
    assert await server.look() is ServerState.PRIMARY
    held = standby.processes()
    try:
        for process in held:
            process.suspend()
        before = await written(primary)
        assert await server.stir()
        assert await written(primary) > before
    finally:
        for process in held:
            process.resume()
        await server.close()


async def written(primary: Member) -> int:
    """How far the log is on disk, bytes."""
    async with primary.database.read() as session:
        return int((await session.execute(text("SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn"))).scalar_one())


async def without_old_log(primary: Member) -> None:
    """The primary has moved on, and no longer has what a standby that was away would go on with."""
    sockets = str(files.socket_folder(primary.site.folder))
    connection = await asyncpg.connect(
        host=sockets, port=primary.site.postgres_port, user=SUPERUSER, password=SECRETS.superuser, database="postgres"
    )
    old = set((primary.site.data / "pg_wal").glob("0*"))
    await connection.execute("SELECT pg_switch_wal()")
    await connection.execute("CHECKPOINT")
    await connection.close()
    for segment in old:
        segment.unlink(missing_ok=True)
