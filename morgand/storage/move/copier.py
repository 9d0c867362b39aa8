"""Making PostgreSQL equal to SQLite, by comparing: what differs is copied, what is gone is removed.

A pass sees all tables of SQLite as of one moment. It needs no record of what was copied before, and trusts no clock
and no ``updated_at``: whatever a copier that was killed, or a writer meanwhile, has left is found by its digest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from morgand.base.errors import Conflict
from morgand.storage.move.rows import SHAPES, Raw, Shape, Sum
from morgand.storage.move.source import Source
from morgand.storage.move.target import MoveTarget

PASSES = 6  # while SQLite is written to; the last one follows under the hold anyway
FEW = 500  # rows that a pass may have changed for the next one, under the hold, to be about as short as can be

Tell = Callable[[str, str, int, int], None]  # stage, table, rows done, rows in all


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of a table whose ids lie over ``low`` up to ``high``; None is open."""

    rows: Sequence[Raw]
    low: str | None
    high: str | None


class Copier:
    """``tell`` is called after every batch."""

    def __init__(self, source: Source, target: MoveTarget, marker: str, tell: Tell) -> None:
        self._source, self._target = source, target
        self._marker = marker
        self._notify = tell

    async def prepare(self) -> None:
        """Raises Conflict for a target that is not ours, or a schema that is not this program's."""
        self._notify("prepare", "", 0, 0)
        await self._target.claim(self._marker)
        if self._source.revisions() != await self._target.revisions():
            raise Conflict("The two databases are not at the same version of the schema.", remedy="Start morgand anew.")

    async def copy(self) -> None:
        """Bring the target near to the source while that is written to."""
        await self._pass("copy")
        await self._target.analyze()
        for _ in range(PASSES):
            _, changed = await self._pass("catch_up")
            if changed <= FEW:
                break
        await self._target.record(self._marker, "copied", {})  # the standby catches up now, not under the hold

    async def finish(self) -> dict[str, Sum]:
        """Make both equal and prove it, while nobody writes to the source. Returns what both hold, by table.

        Raises Conflict when a difference stays.
        """
        sums, _ = await self._pass("verify")
        for shape in SHAPES:
            if (there := await self._target.count(shape)) != sums[shape.name].rows:
                raise _differs(shape, f"{sums[shape.name].rows} rows in SQLite, {there} in PostgreSQL")
        await self._target.record(self._marker, "verified", sums)
        return sums

    async def committed(self, sums: dict[str, Sum]) -> None:
        """From now on this move refuses to be made again."""
        await self._target.record(self._marker, "committed", sums)

    async def _pass(self, stage: str) -> tuple[dict[str, Sum], int]:
        """Returns what the source holds, and how many rows differed. When verifying, a difference is repaired once."""
        self._source.look()
        try:
            changed = 0
            for shape in reversed(SHAPES):  # children first, and all before anything new needs their unique values
                changed += await self._remove_gone(shape)
            sums: dict[str, Sum] = {}
            for shape in SHAPES:
                sums[shape.name], differed = await self._equalize(shape, stage)
                changed += differed
        finally:
            self._source.forget()
        return sums, changed

    async def _remove_gone(self, shape: Shape) -> int:
        removed = 0
        low = None
        async for there in self._target.ids(shape):
            here = await asyncio.to_thread(self._source.ids, shape, low, there[-1])
            if gone := [one for one in there if one not in here]:
                await self._target.remove(shape, gone)
                removed += len(gone)
            low = there[-1]
        return removed

    async def _equalize(self, shape: Shape, stage: str) -> tuple[Sum, int]:
        total = Sum()
        changed = 0
        in_all = await asyncio.to_thread(self._source.count, shape)
        async with aclosing(self._batches(shape)) as batches:
            async for batch, ours in batches:
                theirs = await self._target.digests(shape, batch.low, batch.high)
                if theirs != ours:
                    changed += await self._write(shape, batch, ours, theirs)
                    if stage == "verify":
                        await self._check(shape, batch, ours)
                total = total.plus(list(ours.values()))
                self._notify(stage, shape.name, total.rows, in_all)
        return total, changed

    async def _write(self, shape: Shape, batch: Batch, ours: dict[str, str], theirs: dict[str, str]) -> int:
        rows = [row for row in batch.rows if theirs.get(row[0]) != ours[row[0]]]
        if rows:
            await self._target.put(shape, rows)
        return len(rows)

    async def _check(self, shape: Shape, batch: Batch, ours: dict[str, str]) -> None:
        theirs = await self._target.digests(shape, batch.low, batch.high)
        if differing := sorted(one for one in ours.keys() | theirs.keys() if ours.get(one) != theirs.get(one)):
            raise _differs(shape, f"{len(differing)} of {len(ours)} rows, the first is {differing[0]}")

    async def _batches(self, shape: Shape) -> AsyncGenerator[tuple[Batch, dict[str, str]], None]:
        """Batches that together span all ids, with their digests; one is read while the one before is compared."""
        reading = self._source.batches(shape)

        def read() -> tuple[list[Raw], dict[str, str]] | None:
            rows = next(reading, None)
            return None if rows is None else (rows, {row[0]: shape.digest(row) for row in rows})

        low = None
        ahead = asyncio.ensure_future(asyncio.to_thread(read))
        try:
            while (batch := await ahead) is not None:
                ahead = asyncio.ensure_future(asyncio.to_thread(read))
                rows, ours = batch
                yield Batch(rows, low, rows[-1][0]), ours
                low = rows[-1][0]
            yield Batch((), low, None), {}
        finally:
            await asyncio.wait([ahead])  # a thread that still reads would meet the next statement


def _differs(shape: Shape, how: str) -> Conflict:
    return Conflict(
        f"Table {shape.name} is not the same after the move: {how}. SQLite stays in charge.",
        remedy="See whether something else writes to the new PostgreSQL; the move will be tried again.",
    )
