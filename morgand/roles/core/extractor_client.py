"""Use the extractor engine: ``ports.Extractor``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from morgand.base.clock import Clock, SystemClock
from morgand.base.error_wire import from_wire
from morgand.base.errors import EngineError, MorganError, Unreadable
from morgand.roles.core.extractor_wire import ExtractionReading, ExtractReply, ExtractRequest, File
from morgand.roles.process import EngineClient
from morgand.state.assistant import Extracted

DEADLINE_S = 150.0  # above the engine's own limit per file
RESTART_S = 15.0  # how long a crashed engine may take to come back
POLL_S = 0.2
FRESH_S = 2.0  # an engine that has answered within this time is not asked whether it is there


class EngineExtractor:
    """Extraction by the engine behind ``client``, one call at a time: its limit per call leaves no room for a queue."""

    def __init__(self, client: EngineClient, clock: Clock | None = None) -> None:
        self._client = client
        self._clock = clock or SystemClock()
        self._lock = asyncio.Lock()
        self._fresh_until = 0.0

    async def extract(self, files: Sequence[tuple[Path, str]]) -> list[Extracted | MorganError]:
        """Unsupported, Unreadable or TooLarge for a file's own faults, EngineError when nobody can read it.

        All in one call; when that fails each for itself, so that none stands in for another. A file that crashes the
        engine twice is Unreadable: it must not keep others from being read.
        """
        asked = [File(str(path), name) for path, name in files]
        async with self._lock:
            if not await self._there():
                return [_away() for _ in asked]
            if len(asked) > 1:
                with contextlib.suppress(MorganError):
                    return await self._call(asked)
            return [await self._alone(one) for one in asked]

    async def _alone(self, file: File) -> Extracted | MorganError:
        if not await self._there():
            return _away()
        crashed = False
        while True:
            try:
                return (await self._call([file]))[0]
            except EngineError as err:
                if crashed or isinstance(err.__cause__, TimeoutError) or not await self._healthy():
                    return self._lost(err, file.name)
                crashed = True
            except MorganError as err:
                return err

    async def _call(self, files: Sequence[File]) -> list[Extracted | MorganError]:
        self._fresh_until = 0.0
        reply = await self._client.call("extract", ExtractRequest(tuple(files)), ExtractReply, deadline_s=DEADLINE_S)
        self._fresh_until = self._clock.monotonic() + FRESH_S
        return [_read(one) for one in reply.readings]

    async def _there(self) -> bool:
        if self._clock.monotonic() >= self._fresh_until and await self._healthy():
            self._fresh_until = self._clock.monotonic() + FRESH_S
        return self._clock.monotonic() < self._fresh_until

    async def _healthy(self) -> bool:
        until = self._clock.monotonic() + RESTART_S
        while not await self._client.healthy():
            if self._clock.monotonic() >= until:
                return False
            await self._clock.sleep(POLL_S)
        return True

    def _lost(self, err: EngineError, name: str) -> Unreadable:
        why = "the parser did not answer in time" if isinstance(err.__cause__, TimeoutError) else "the parser crashed"
        return Unreadable(f"'{name}' cannot be read: {why}.", remedy="Save it in another format and try again.")


def _away() -> EngineError:
    return EngineError("The document reader is not running.", remedy="See `morganctl logs extractor`.")


def _read(reading: ExtractionReading) -> Extracted | MorganError:
    return reading.extracted or from_wire(reading.error, "The document reader")
