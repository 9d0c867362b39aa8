"""Where the API is served: the local Unix socket, and TCP for those with a key."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

from aiohttp import web

from morgand.api.http import make_app, make_runner
from morgand.api.service import ApiContext
from morgand.base.errors import Conflict


class ApiServer:
    """``port`` is the one really bound on TCP, None when that site is off."""

    def __init__(self) -> None:
        self._runners: list[web.AppRunner] = []
        self.port: int | None = None

    async def start(self, service: ApiContext, socket: Path, listen: tuple[str, int] | None) -> None:
        """Raises Conflict when the port is taken or the address is not ours."""
        await asyncio.to_thread(socket.unlink, missing_ok=True)  # of a daemon that died: we hold the lock
        await web.UnixSite(await self._runner(service, trusted=True), str(socket)).start()
        await asyncio.to_thread(socket.chmod, 0o600)
        if listen is None:
            return
        host, port = listen
        runner = await self._runner(service, trusted=False)
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as err:
            why = "is taken by another program" if err.errno == errno.EADDRINUSE else f"cannot be used: {err.strerror}"
            raise Conflict(f"{host}:{port} {why}.", remedy="Set api.listen to another address, or to off.") from err
        self.port = runner.addresses[0][1]

    async def close(self) -> None:
        for runner in reversed(self._runners):
            await runner.cleanup()

    async def _runner(self, service: ApiContext, *, trusted: bool) -> web.AppRunner:
        runner = make_runner(make_app(service, trusted=trusted))
        await runner.setup()
        self._runners.append(runner)
        return runner
