"""The one-time move of what one host keeps in SQLite to the cluster's PostgreSQL.

A process of its own copies while SQLite serves (``move_child``, ``move_copy``). For its last pass, and the proof that
both hold the same, SQLite is held; then the caller commits the change of engine, and the file is set aside under a
name from which no database is opened. Until that commit SQLite is in charge, whatever happens: a move that was cut
off is made again, and finds what is there already.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from sqlalchemy import make_url

from morgand.base.clock import Clock
from morgand.base.error_wire import from_wire
from morgand.base.errors import EngineError, MorganError, Unavailable
from morgand.storage.database import Database
from morgand.storage.move.old_file import set_aside, write_note
from morgand.storage.move.wire import Failed, MoveDone, Options, Ready, Said, Told, Verified, Word

log = logging.getLogger("morgand.storage.move")

SILENCE_S = 300.0  # the longest step that tells nothing is a migration of the empty PostgreSQL, or its ANALYZE
HOLD_S = 60.0  # for the last pass and the proof; what takes longer is given up, and SQLite admitted again

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """``stage`` is prepare, copy, catch_up or verify; ``rows`` of ``of`` rows of ``table`` are done in it."""

    stage: str
    table: str
    rows: int
    of: int


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved, rows by table, and how long SQLite refused its users for it."""

    rows: Mapping[str, int]
    held_s: float
    kept: Path | None  # the old file; None if that is left to the next start


class DatabaseMove:
    """From the file of ``source`` to the PostgreSQL at ``target``, a URL as ``move_target.Target`` takes it.

    ``marker`` names the cluster and the move. It is the same in every attempt, and what ``commit`` has to leave in the
    cluster's store for ``move_file.already_moved``.
    """

    def __init__(
        self, source: Database, target: str, marker: str, clock: Clock, report: Callable[[Progress], None],
        *, hold_s: float = HOLD_S,
    ) -> None:  # fmt: skip
        assert source.is_sqlite
        self._source = source
        self._file = Path(make_url(source.url).database or "")
        self._options = Options(str(self._file), target, marker)
        self._clock = clock
        self._report = report
        self._hold_s = hold_s

    async def run(self, commit: Callable[[], Awaitable[None]]) -> Moved:
        """Copy, verify while writers wait, ``commit``, set the file aside. ``source`` stays held and closed afterwards.

        ``commit`` raises only if the change was surely not made; then, as after any other error, ``source`` serves on.
        Raises Conflict for a target that holds something else, or does not become the same; Unavailable, StorageFull.
        """
        async with _copier() as copier:
            await copier.say(msgspec.json.encode(self._options))
            await self._until(copier, Ready)
            started = self._clock.monotonic()
            verified = await self._change_over(copier, commit)
            held_s = self._clock.monotonic() - started
            with contextlib.suppress(MorganError):  # only a second bolt on the door: the cluster's store decides
                await copier.say(Word.COMMITTED.encode())
                await self._until(copier, MoveDone)
        await self._source.close()
        kept = await self._set_aside()
        log.info("database moved", extra={"rows": sum(verified.rows.values()), "held_s": held_s, "kept": str(kept)})
        return Moved(verified.rows, held_s, kept)

    async def _set_aside(self) -> Path | None:
        try:
            return await asyncio.to_thread(set_aside, self._file, self._clock.now().date())
        except MorganError as err:  # the move is done all the same; the next start finds the file by its note
            log.warning("the old database file was not set aside", extra={"reason": str(err)})
            return None

    async def _change_over(self, copier: _Copier, commit: Callable[[], Awaitable[None]]) -> Verified:
        """While nobody, in this process or another, can write to SQLite: writers wait, readers do not."""
        async with self._source.change_schema():  # it changes nothing
            verified = await self._verify(copier)
            await asyncio.to_thread(write_note, self._file, self._options.marker)
            self._source.hold()  # before the writers that wait here get their turn: it is for PostgreSQL
            committing = asyncio.ensure_future(commit())
            try:
                await asyncio.shield(committing)
            finally:  # whoever is cancelled meanwhile still waits for how it ended
                await asyncio.wait([committing])
                if not committing.cancelled() and committing.exception() is not None:
                    self._source.admit()
        return verified

    async def _verify(self, copier: _Copier) -> Verified:
        try:
            async with asyncio.timeout(self._hold_s):
                await copier.say(Word.HELD.encode())
                return await self._until(copier, Verified)
        except TimeoutError as err:
            raise Unavailable(f"The last step of the move took over {self._hold_s:g} s.") from err

    async def _until(self, copier: _Copier, wanted: type[T]) -> T:
        while True:
            said = await copier.hear()
            if isinstance(said, Told):
                self._report(Progress(said.stage, said.table, said.rows, said.of))
            elif isinstance(said, Failed):
                raise from_wire(said.error, "The copier of the database")
            elif isinstance(said, wanted):
                return said
            else:
                raise EngineError("The copier of the database lost its thread.")


class _Copier:
    """The process that copies."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout

    async def say(self, line: bytes) -> None:
        """Raises EngineError if it has ended."""
        try:
            self._in.write(line + b"\n")
            await self._in.drain()
        except OSError as err:
            raise EngineError("The copier of the database ended.") from err

    async def hear(self) -> Said:
        """Raises EngineError if it ended, or says nothing for too long."""
        try:
            async with asyncio.timeout(SILENCE_S):
                line = await self._out.readline()
        except TimeoutError as err:
            raise EngineError("The copier of the database stands still.") from err
        if not line.endswith(b"\n"):
            raise EngineError("The copier of the database ended.")
        said: Said = msgspec.json.decode(line, type=Said)
        return said

    async def end(self) -> None:
        """It has nothing to finish: what it was doing is undone by the database."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def _copier() -> AsyncIterator[_Copier]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "morgand.storage.move.child",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    copier = _Copier(process)
    try:
        yield copier
    finally:
        await asyncio.shield(copier.end())
