"""What goes wrong around a database: killed in mid-write, full, read-only, damaged, held by somebody else."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from morgand.base.errors import MorganError, StorageFull, Unavailable
from morgand.storage.database import Database, sqlite_url
from morgand.storage.history import SqlHistory
from morgand.storage.library import SqlLibrary
from tests.fakes.storage import HandClock, added, completed, extracted, new_document, tree

WRITER = """
import asyncio, resource, sys
from uuid import uuid4
from morgand.base.clock import SystemClock
from morgand.base.errors import StorageFull
from morgand.storage.database import Database
from morgand.storage.history import SqlHistory
if sys.argv[3] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
async def main():
    database = Database(sys.argv[1])
    history = SqlHistory(database, SystemClock())
    try:
        while True:
            turn = str(uuid4())
            await history.store_message(turn, sys.argv[2], "word " * 400, tokens=1, user=None)
            print(turn, flush=True)
            await history.store_answer(turn, "answer " * 400, tokens=1, citations=[], notices=[])
            print(turn, "answered", flush=True)
    except StorageFull as err:
        print("FULL", err, flush=True)
    await database.close()
asyncio.run(main())
"""

READ_ONLY = """
import asyncio, sys
from pathlib import Path
from morgand.base.errors import StorageFull
from morgand.storage.database import Database, sqlite_url
async def main():
    database = Database(sqlite_url(Path(sys.argv[1]) / "morgan.sqlite"))
    try:
        await database.open()
    except StorageFull as err:
        print(err)
    await database.close()
asyncio.run(main())
"""


@pytest.fixture
def database(file: Database) -> Database:
    """This is about the file and its folder."""
    return file


async def check_all_there(database: Database, conversation: str, acknowledged: list[str]) -> None:
    """Every acknowledged message and answer is stored, and the file is sound."""
    history = SqlHistory(database, HandClock())
    for line in acknowledged:
        turn_id, _, answered = line.partition(" ")
        turn = await history.turn(turn_id)
        assert turn is not None, f"{turn_id} was acknowledged"
        assert turn.answer is not None or not answered
    assert (
        len(await history.messages(conversation, limit=100_000)) == (await history.conversation(conversation)).messages
    )
    async with database.read() as session:
        assert await session.scalar(text("PRAGMA integrity_check")) == "ok"


async def test_all_that_was_acknowledged_survives_a_kill(database: Database, tmp_path: Path) -> None:
    """Three writers in turn are killed in mid-write; every message they reported is there, once."""
    url, conversation = sqlite_url(tmp_path / "db" / "morgan.sqlite"), str(uuid4())
    acknowledged: list[str] = []
    for lines in (7, 40, 101):
        writer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, url, conversation, "0", stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        acknowledged += [(await writer.stdout.readline()).decode().strip() for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        rest, _ = await writer.communicate()
        acknowledged += [line for line in rest.decode().split("\n")[:-1] if line]
    await check_all_there(database, conversation, acknowledged)


async def test_a_full_disk_stops_cleanly(database: Database, tmp_path: Path) -> None:
    """Where files cannot grow the write is refused with the remedy, and everything before it is there."""
    url, conversation = sqlite_url(tmp_path / "db" / "morgan.sqlite"), str(uuid4())
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, url, conversation, "2000000", stdout=subprocess.PIPE
    )
    output, _ = await writer.communicate()
    *acknowledged, last = output.decode().splitlines()
    assert last.startswith("FULL")
    assert "Free some space" in last
    assert len(acknowledged) > 10
    await check_all_there(database, conversation, acknowledged)


async def test_a_document_that_does_not_fit_is_not_half_there(database: Database) -> None:
    """The page limit is reached in the middle of its chunks: none is stored, and writing goes on when there is room."""
    library = SqlLibrary(database, HandClock())
    document, _ = await added(library, new_document())
    chunks = tree(document.id, ["boiler " * 200] * 200)
    await set_page_limit(database, 200)
    with pytest.raises(StorageFull, match="disk is full"):
        await completed(library, document.id, extracted(), chunks)
    assert await library.live() == {}
    assert await library.chunks(document.id) == []
    await set_page_limit(database, 100_000)
    await completed(library, document.id, extracted(), chunks)
    assert await library.live() == {document.id: 401}


async def set_page_limit(database: Database, pages: int) -> None:
    """On the one pooled connection: the limit belongs to the connection."""
    async with database.outside_transaction() as connection:
        await connection.execute(text(f"PRAGMA max_page_count={pages}"))


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that another user's process can enter and not change (root may always write)."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


async def test_a_read_only_directory_is_told(read_only: Path) -> None:
    """The message names the file and says what to do."""
    who = {}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    ran = subprocess.run(
        [sys.executable, "-c", READ_ONLY, read_only], capture_output=True, text=True, check=True, **who
    )  # type: ignore[call-overload] # the keywords of another identity
    assert "morgan.sqlite cannot be written" in ran.stdout
    assert "writable" in ran.stdout


async def test_a_database_that_turned_read_only_is_told(database: Database, tmp_path: Path) -> None:
    """Reading goes on."""
    history = SqlHistory(database, HandClock())
    async with database.outside_transaction() as connection:
        await connection.execute(text("PRAGMA query_only=ON"))
    with pytest.raises(StorageFull, match="cannot be written"):
        await history.store_message(str(uuid4()), str(uuid4()), "x", tokens=1, user=None)
    assert await history.conversations() == []


async def test_a_damaged_file_is_told_and_left_alone(tmp_path: Path) -> None:
    """The remedy is to restore; nothing overwrites what may still be saved."""
    file = tmp_path / "morgan.sqlite"
    file.write_bytes(b"this is no database" * 1000)
    before = file.read_bytes()
    database = Database(sqlite_url(file))
    with pytest.raises(MorganError, match=r"damaged.*restore"):
        await database.open()
    await database.close()
    assert file.read_bytes() == before


async def test_a_writer_waits_for_its_turn_and_not_forever(tmp_path: Path) -> None:
    """Behind a slow write it gets a clear answer after its deadline."""
    database = Database(sqlite_url(tmp_path / "morgan.sqlite"), write_deadline_s=0.05)
    await database.open()
    async with database.write():
        with pytest.raises(Unavailable, match="busy"):
            async with database.write():
                pass
    async with database.write():
        pass
    await database.close()


async def test_a_file_held_by_another_program_is_unavailable(tmp_path: Path) -> None:
    """A backup that holds the lock is waited for, up to a limit."""
    database = Database(sqlite_url(tmp_path / "morgan.sqlite"), busy_timeout_ms=50)
    await database.open()
    other = sqlite3.connect(tmp_path / "morgan.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="holds the database"):
        async with database.write() as session:
            await session.execute(text("SELECT 1"))
    other.execute("ROLLBACK")
    other.close()
    await database.close()


async def test_a_write_that_is_cancelled_leaves_nothing_and_blocks_nobody(database: Database) -> None:
    """A client that hangs up in the middle of a write."""
    history = SqlHistory(database, HandClock())
    conversation = str(uuid4())
    for delay in range(30):
        write = asyncio.create_task(history.store_message(str(uuid4()), conversation, "x", tokens=1, user=None))
        await asyncio.sleep(delay * 0.0005)
        write.cancel()
        async with asyncio.timeout(3):  # shorter than the patience with a lock
            await asyncio.gather(write, return_exceptions=True)
    await history.store_message(str(uuid4()), conversation, "last", tokens=1, user=None)
    messages = await history.messages(conversation)
    assert messages[-1].text == "last"
    assert len(messages) == (await history.conversation(conversation)).messages


async def test_health_tells_latency_and_connections(database: Database) -> None:
    """What status shows."""
    health = await database.health()
    assert health.latency_ms > 0
    assert 0 <= health.in_use <= health.limit


async def test_the_files_are_private_and_durable(database: Database, tmp_path: Path) -> None:
    """Nobody else reads them, and a commit is on the disk when it returns."""
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "db").iterdir()} == {0o600}
    async with database.read() as session:
        assert await session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert await session.scalar(text("PRAGMA synchronous")) == 2
        assert await session.scalar(text("PRAGMA foreign_keys")) == 1
