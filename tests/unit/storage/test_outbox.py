"""The outbox: durable before it says so, unreadable without its key, bounded, and robust against damaged files."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from morgand.base.errors import Conflict, InvalidInput, NotFound, Overloaded, StorageFull
from morgand.storage.outbox import KeptMessage, Outbox, heads
from morgand.storage.sealed import DamagedFile

WHEN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def kept(text: str = "Where is the key?", *, conversation: str | None = None, turn: str | None = None) -> KeptMessage:
    return KeptMessage(
        turn or str(uuid4()), text, conversation, answer=True, documents=True, user="ada", created=WHEN
    )  # fmt: skip


async def opened(folder: Path, **limits: int) -> Outbox:
    box = Outbox(folder, "atlas", **limits)
    await box.open()
    return box


async def texts(box: Outbox) -> list[str]:
    return [(await box.read(one)).text for one in box.waiting()]


async def test_what_was_put_is_there_after_a_restart_in_order(tmp_path: Path) -> None:
    first = [kept(f"message {number}", conversation=str(uuid4())) for number in range(12)]
    box = await opened(tmp_path)
    for one in first:
        await box.put(one)
    again = await opened(tmp_path)
    assert [await again.read(one) for one in again.waiting()] == first
    await again.put(kept("the last"))
    assert (await texts(await opened(tmp_path)))[-1] == "the last"


async def test_the_text_is_not_in_the_files_and_nobody_else_may_read_them(tmp_path: Path) -> None:
    """Neither text nor user; key and files are readable by their owner alone."""
    await (await opened(tmp_path)).put(kept("The PIN is 4711."))
    for file in tmp_path.rglob("*"):
        mode = stat.S_IMODE(file.stat().st_mode)
        assert mode == (0o700 if file.is_dir() else 0o600), file
        if file.is_file():
            content = file.read_bytes()
            assert b"4711" not in content
            assert b"ada" not in content
    assert len((tmp_path / "outbox.key").read_bytes()) == 32


async def test_the_same_turn_is_kept_once_and_other_content_is_refused(tmp_path: Path) -> None:
    box, message = await opened(tmp_path), kept()
    await asyncio.gather(*(box.put(message) for _ in range(5)))
    assert len(box.waiting()) == 1
    with pytest.raises(Conflict, match="new id"):
        await box.put(msgspec.structs.replace(message, text="Something else"))
    with pytest.raises(InvalidInput):
        await box.put(kept(turn="../../etc/passwd"))


async def test_count_and_bytes_are_bounded(tmp_path: Path) -> None:
    """Over either bound a message is refused with what to do, and what is kept stays."""
    for name in ("few", "small"):
        (tmp_path / name).mkdir()
    few = await opened(tmp_path / "few", max_messages=2)
    first = await few.put(kept("one"))
    await few.put(kept("two"))
    with pytest.raises(Overloaded, match="2 messages") as told:
        await few.put(kept("three"))
    assert "morganctl status" in str(told.value.remedy)
    await few.remove(first)  # the database is back
    await few.put(kept("three"))
    small = await opened(tmp_path / "small", max_bytes=2_000)
    await small.put(kept("x" * 1_000))
    with pytest.raises(Overloaded):
        await small.put(kept("y" * 1_000))
    assert await texts(small) == ["x" * 1_000]


async def test_a_full_disk_keeps_nothing_half_and_works_again_with_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system says that the disk is full: StorageFull, no file is left, the next one is kept."""
    box = await opened(tmp_path)
    await box.put(kept("before"))

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageFull, match="No space left"):
            await box.put(kept("never"))
    assert len(list((tmp_path / "outbox").iterdir())) == 1
    await box.put(kept("after"))
    assert await texts(await opened(tmp_path)) == ["before", "after"]


async def test_an_unfinished_file_is_dropped_and_a_damaged_one_set_aside(tmp_path: Path) -> None:
    """A torn write was never acknowledged; damage to one file is reported and costs the others nothing."""
    box = await opened(tmp_path)
    for number in range(4):
        await box.put(kept(str(number), conversation=str(uuid4())))
    folder = tmp_path / "outbox"
    files = sorted(folder.iterdir())
    (folder / "000000000009-x.kept.new").write_bytes(files[0].read_bytes()[:20])
    files[0].write_bytes(files[0].read_bytes()[:-3])  # torn
    files[1].write_bytes(bytearray(files[1].read_bytes()[:-1]) + b"\x00")  # rotten
    files[2].write_bytes(files[3].read_bytes())  # in another's place
    again = await opened(tmp_path)
    assert await texts(again) == ["3"]
    assert len(again.damaged) == 3
    assert not list(folder.glob("*.new"))
    assert len((await opened(tmp_path)).damaged) == 3


@pytest.mark.parametrize(("fault", "stays"), [(errno.EIO, False), (errno.EMFILE, True)])
async def test_a_file_that_the_system_cannot_read_is_told_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int, stays: bool
) -> None:
    """Bad sectors: set aside. Anything that may pass: it stays where it is, and is met again at the next start."""
    box = await opened(tmp_path)
    bad = await box.put(kept("bad", conversation=str(uuid4())))
    await box.put(kept("good"))
    read = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.name == bad.name:
            raise OSError(fault, "no")
        return read(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", failing)
        again = await opened(tmp_path)
    assert await texts(again) == ["good"]
    assert len(again.damaged) == 1
    assert await texts(await opened(tmp_path)) == (["bad", "good"] if stays else ["good"])


async def test_a_file_that_is_damaged_later_leaves_the_queue(tmp_path: Path) -> None:
    box = await opened(tmp_path)
    entry = await box.put(kept())
    (tmp_path / "outbox" / entry.name).write_bytes(b"")
    with pytest.raises(DamagedFile):
        await box.read(entry)
    assert box.waiting() == []
    assert len(box.damaged) == 1


async def test_without_its_key_nothing_is_read_and_new_messages_are_kept(tmp_path: Path) -> None:
    """A lost or damaged key costs what was sealed with it, and not what comes."""
    await (await opened(tmp_path)).put(kept("lost"))
    (tmp_path / "outbox.key").write_bytes(b"short")
    box = await opened(tmp_path)
    assert len(box.damaged) == 1
    await box.put(kept("new"))
    assert await texts(await opened(tmp_path)) == ["new"]
    assert (tmp_path / "outbox.key.damaged").read_bytes() == b"short"


async def test_a_refused_message_stays_readable_until_it_is_discarded(tmp_path: Path) -> None:
    """It holds up nothing, survives a restart with its reason, and only it can be discarded."""
    box = await opened(tmp_path)
    place = str(uuid4())
    bad, good = await box.put(kept("bad", conversation=place)), await box.put(kept("good", conversation=place))
    await box.refuse(bad, "There is no conversation.")
    again = await opened(tmp_path)
    assert await texts(again) == ["good"]
    (refused,) = again.refused()
    assert (await again.read(refused)).text == "bad"
    assert refused.reason == "There is no conversation."
    assert again.find(bad.turn) is None
    with pytest.raises(Conflict):
        await again.discard(good.turn)
    await again.discard(bad.turn)
    with pytest.raises(NotFound):
        await again.discard(bad.turn)
    assert (await opened(tmp_path)).refused() == []


async def test_a_refused_message_that_is_sent_again_waits_again_at_the_end(tmp_path: Path) -> None:
    box = await opened(tmp_path)
    message = kept("again")
    await box.refuse(await box.put(message), "reason")
    await box.put(kept("other"))
    await box.put(message)
    assert await texts(await opened(tmp_path)) == ["other", "again"]
    assert (await opened(tmp_path)).refused() == []


async def test_a_crash_between_the_two_files_of_a_refusal_leaves_one(tmp_path: Path) -> None:
    box = await opened(tmp_path)
    entry = await box.put(kept())
    before = (tmp_path / "outbox" / entry.name).read_bytes()
    await box.refuse(entry, "reason")
    (tmp_path / "outbox" / entry.name).write_bytes(before)
    again = await opened(tmp_path)
    assert (len(again.waiting()), len(again.refused())) == (0, 1)
    assert len(list((tmp_path / "outbox").iterdir())) == 1


async def test_what_is_delivered_holds_up_nothing_and_is_not_told_as_waiting(tmp_path: Path) -> None:
    """Its file stays until the answer is stored; after a crash it waits again."""
    box, place = await opened(tmp_path), str(uuid4())
    entry = await box.put(kept(conversation=place))
    assert box.holds_up(place)
    box.delivered(entry)
    assert not box.holds_up(place)
    assert box.find(entry.turn) is None
    assert box.undelivered == 0
    assert (await opened(tmp_path)).holds_up(place)
    await box.remove(entry)
    assert (await opened(tmp_path)).all() == []


async def test_heads_are_the_oldest_of_each_conversation(tmp_path: Path) -> None:
    box, place = await opened(tmp_path), str(uuid4())
    opening = kept("opens one")
    for message in (
        opening,
        kept("a", conversation=place),
        kept("b", conversation=opening.place),
        kept("c", conversation=place),
    ):
        await box.put(message)
    assert [(await box.read(one)).text for one in heads(box.waiting())] == ["opens one", "a"]


async def test_a_caller_that_goes_away_leaves_memory_and_disk_in_step(tmp_path: Path) -> None:
    box = await opened(tmp_path)
    putting = asyncio.create_task(box.put(kept()))
    await asyncio.sleep(0)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert len(box.waiting()) == len((await opened(tmp_path)).waiting())


WRITER = """
import asyncio, sys, uuid
from datetime import UTC, datetime
from pathlib import Path
from morgand.storage.outbox import KeptMessage, Outbox

async def main():
    box = Outbox(Path(sys.argv[1]), "atlas")
    await box.open()
    number = 0
    while True:
        number += 1
        await box.put(KeptMessage(str(uuid.uuid4()), f"message {number}", None, True, True, None, datetime.now(UTC)))
        print(number, flush=True)

asyncio.run(main())
"""


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A process killed in the middle of writing: everything it said it kept is there, whole and in order."""
    argv: list[Any] = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = 0
        while said < 25:
            said = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        said = max([said, *(int(line) for line in writer.stdout.read().split())])
    found = asyncio.run(read_all(tmp_path))
    assert found[:said] == [f"message {number}" for number in range(1, said + 1)]
    assert len(found) - said in (0, 1)  # the last one may be whole without having been acknowledged


async def read_all(folder: Path) -> list[str]:
    box = await opened(folder)
    assert box.damaged == ()
    return await texts(box)
