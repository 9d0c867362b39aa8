"""Use the extractor engine: ``ports.Extractor``."""

from __future__ import annotations

import asyncio
from pathlib import Path

from morgand.clock import Clock, SystemClock
from morgand.errors import EngineError, Unreadable
from morgand.roles.core.extractor_wire import ExtractReply, ExtractRequest
from morgand.roles.process import EngineClient
from morgand.state import Extracted

DEADLINE_S = 150.0  # above the engine's own limit per file
RESTART_S = 15.0  # how long a crashed engine may take to come back
POLL_S = 0.2
FRESH_S = 2.0  # an engine that has read a file within this time is not asked whether it is there


class EngineExtractor:
    """Extraction by the engine behind ``client``, one file at a time: its limit per file leaves no room for a queue."""

    def __init__(self, client: EngineClient, clock: Clock | None = None) -> None:
        self._client = client
        self._clock = clock or SystemClock()
        self._lock = asyncio.Lock()
        self._fresh_until = 0.0

    async def extract(self, path: Path, name: str) -> Extracted:
        """Raises Unsupported, Unreadable or TooLarge for the file's own faults, EngineError when nobody can read it.

        A file that crashes the engine twice is Unreadable: it must not keep others from being read.
        """
        async with self._lock:
            if self._clock.monotonic() >= self._fresh_until and not await self._healthy():
                raise EngineError("The document reader is not running.", remedy="See `morganctl logs extractor`.")
            try:
                return await self._call(path, name)
            except EngineError as err:
                if isinstance(err.__cause__, TimeoutError) or not await self._healthy():
                    raise self._lost(err, name) from err
            try:
                return await self._call(path, name)
            except EngineError as err:
                raise self._lost(err, name) from err

    async def _call(self, path: Path, name: str) -> Extracted:
        self._fresh_until = 0.0
        request = ExtractRequest(str(path), name)
        reply = await self._client.call("extract", request, ExtractReply, deadline_s=DEADLINE_S)
        self._fresh_until = self._clock.monotonic() + FRESH_S
        return reply.extracted

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
