"""``python -m morgand.storage.move.child``: the copier as a process of its own, and what it and the daemon say.

Its options are the first line on stdin, because the URL may hold a password; further lines are ``Word``s. It answers
with lines of JSON on stdout, and ends at once when stdin does: nothing is moved for a daemon that is gone.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import closing
from pathlib import Path

import msgspec

from morgand.base.error_wire import to_wire
from morgand.base.errors import MorganError
from morgand.storage.move.copier import Copier
from morgand.storage.move.rows import Sum
from morgand.storage.move.source import Source
from morgand.storage.move.target import MoveTarget
from morgand.storage.move.wire import Failed, MoveDone, Options, Ready, Said, Told, Verified, Word


class _Daemon:
    """The other side of stdin and stdout."""

    async def listen(self) -> Options:
        """Raises ValueError for a first line that makes no sense."""
        self._words: asyncio.Queue[str] = asyncio.Queue(maxsize=len(Word))
        self._reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(self._reader), sys.stdin)
        options = msgspec.json.decode(await self._reader.readline(), type=Options)
        self._listening = asyncio.ensure_future(self._lifeline())
        return options

    async def word(self, wanted: Word) -> None:
        assert await self._words.get() == wanted

    def say(self, said: Said) -> None:
        """Blocking, and never for long: a daemon that does not read is as good as gone."""
        os.write(1, msgspec.json.encode(said) + b"\n")

    def tell(self, stage: str, table: str, rows: int, of: int) -> None:
        self.say(Told(stage, table, rows, of))

    async def _lifeline(self) -> None:
        while line := await self._reader.readline():
            await self._words.put(line.decode().strip())
        os._exit(1)


async def _move(daemon: _Daemon, options: Options) -> None:
    with closing(Source(Path(options.file))) as source:
        async with MoveTarget.opened(options.url) as target:
            copier = Copier(source, target, options.marker, daemon.tell)
            await copier.prepare()
            await copier.copy()
            daemon.say(Ready())
            await daemon.word(Word.HELD)
            sums: dict[str, Sum] = await copier.finish()
            daemon.say(Verified({name: one.rows for name, one in sums.items()}))
            await daemon.word(Word.COMMITTED)
            await copier.committed(sums)
            daemon.say(MoveDone())


async def _main() -> None:
    daemon = _Daemon()
    options = await daemon.listen()
    try:
        await _move(daemon, options)
    except MorganError as err:
        daemon.say(Failed(to_wire(err)))


if __name__ == "__main__":
    asyncio.run(_main())
