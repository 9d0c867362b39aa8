"""Keeps a child process alive: back-off, restart intensity, escalation, and nothing left behind.

The arithmetic (``restart_delay``) is a pure function; only the loop needs time and processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import logging.handlers
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from morgand.base.clock import Clock
from morgand.base.errors import EngineError, MorganError
from morgand.process.account import inherited
from morgand.process.nice import Priority, set_priority
from morgand.state.roles import RoleState

log = logging.getLogger("morgand.supervisor")

Report = Callable[[RoleState, str | None], None]

BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
INTENSITY = len(BACKOFF_S)  # restarts within WINDOW_S before the child counts as failed
WINDOW_S = 60.0
COOL_DOWN_S = 60.0  # a failed child is tried again after this long: nobody watches an appliance
HEALTH_EVERY_S = 2.0
LOADED_EVERY_S = 0.1  # while it is waited for
HEALTH_MISSES = 3
BACK_TRIES, BACK_AGAIN_S = 20, 0.15
STOP_GRACE_S = 5.0
GONE_EVERY_S = 1.0
LOG_BYTES = 5 * 1024 * 1024
LOG_FILES = 3


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A program to keep running. ``options`` go to its stdin as one JSON line.

    ``apart``: of the daemon's environment it gets the least, and it runs in the system's root folder. ``priority``: how
    it stands back for others where the processors are busy; one that is ``eager`` only when it is loaded.
    """

    name: str
    argv: tuple[str, ...]
    options: Mapping[str, Any]
    log_file: Path
    env: Mapping[str, str] = field(default_factory=dict)
    start_deadline_s: float = 120.0
    stop_grace_s: float = STOP_GRACE_S
    apart: bool = False
    priority: Priority | None = None
    eager: bool = False


@dataclass(frozen=True, slots=True)
class Restart:
    """What to do after a child ended: wait so long; ``failed`` when it ended too often."""

    delay_s: float
    failed: bool


def recent_ends(ends: Sequence[float], now: float) -> list[float]:
    """The times that still count towards the intensity, and this one."""
    return [*(end for end in ends if now - end < WINDOW_S), now]


def restart_delay(ends: Sequence[float], now: float) -> Restart:
    """Decide on the next start from the times the child ended (monotonic seconds, this one included)."""
    recent = sum(1 for end in ends if now - end < WINDOW_S)
    if recent > INTENSITY:
        return Restart(COOL_DOWN_S, failed=True)
    return Restart(BACKOFF_S[max(recent, 1) - 1], failed=False)


class Child:
    """One supervised process. ``probe`` says whether it is loaded and healthy; ``prepare`` comes before every start,
    and a MorganError it raises is why there is none. ``proof`` does once what the child is for: only when that has
    succeeded the child is ready, and a MorganError it raises is why it is not."""

    def __init__(
        self, spec: ChildSpec, probe: Callable[[], Awaitable[bool]], clock: Clock,
        prepare: Callable[[], Awaitable[None]] | None = None, proof: Callable[[], Awaitable[object]] | None = None,
    ) -> None:  # fmt: skip
        self._spec = spec
        self._probe = probe
        self._prepare = prepare
        self._proof = proof
        self._clock = clock
        self._ends: list[float] = []

    async def run(self, report: Report) -> None:
        """Keep the child running until cancelled; then stop it and wait for its end."""
        while True:
            report(RoleState.STARTING, None)
            reason = await self._live_once(report)
            now = self._clock.monotonic()
            self._ends = recent_ends(self._ends, now)
            restart = restart_delay(self._ends, now)
            log.warning(
                "child ended", extra={"child": self._spec.name, "reason": reason, "restart_in_s": restart.delay_s}
            )
            report(RoleState.FAILED if restart.failed else RoleState.STARTING, reason)
            await self._clock.sleep(restart.delay_s)

    async def _live_once(self, report: Report) -> str:
        """Start the child, watch it to its end, and say in words why it ended."""
        try:
            if self._prepare is not None:
                await self._prepare()
            process = await self._start()
        except MorganError as err:
            return str(err)
        except OSError as err:
            return f"{self._spec.name} could not be started: {err.strerror or err}."
        output = _Output(self._spec.log_file)
        silent: str | None = None
        async with asyncio.TaskGroup() as group:
            copying = group.create_task(output.copy(process))
            loaded = asyncio.Event()
            watching = group.create_task(self._watch(report, loaded))
            placing = group.create_task(self._place(process.pid, loaded))
            try:
                ending = group.create_task(_gone(process))
                await asyncio.wait((ending, watching), return_when=asyncio.FIRST_COMPLETED)
                silent = watching.result() if watching.done() and not ending.done() else None
            finally:
                watching.cancel()
                placing.cancel()
                grace_s = min(self._spec.stop_grace_s, STOP_GRACE_S) if silent else self._spec.stop_grace_s
                await asyncio.shield(_end(process, grace_s))
                await asyncio.wait((copying,), timeout=1.0)  # its last words may still be in the pipe
                copying.cancel()
                _close(process)
        if silent:
            return f"{self._spec.name} {silent} and was ended."
        last = output.last_line
        return f"{self._spec.name} ended with exit code {process.returncode}" + (f": {last}" if last else ".")

    async def _start(self) -> asyncio.subprocess.Process:
        self._spec.log_file.parent.mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *self._spec.argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**(inherited() if self._spec.apart else os.environ), **self._spec.env},
            cwd="/" if self._spec.apart else None,
            start_new_session=True,  # a Ctrl-C on the daemon's terminal is the daemon's to handle
            limit=64 * 1024,
        )
        if process.stdin is None:
            raise EngineError(f"{self._spec.name} has no stdin.")
        process.stdin.write(json.dumps(dict(self._spec.options)).encode() + b"\n")
        try:
            with contextlib.suppress(ConnectionError):  # it may have died already; its exit code says why
                await process.stdin.drain()
        except BaseException:  # nobody else knows of it yet
            await asyncio.shield(_end(process, self._spec.stop_grace_s))
            _close(process)
            raise
        return process

    async def _place(self, process: int, loaded: asyncio.Event) -> None:
        if self._spec.priority is None:
            return
        if self._spec.eager:
            await loaded.wait()
        for _ in range(BACK_TRIES):
            if set_priority(self._spec.priority, process):
                return
            await asyncio.sleep(BACK_AGAIN_S)

    async def _watch(self, report: Report, loaded: asyncio.Event) -> str:
        """Why the child must be ended: it did not answer in time, or missed its checks."""
        late = await self._until_ready()
        if late is not None:
            return late
        report(RoleState.READY, None)
        loaded.set()
        misses = 0
        while misses < HEALTH_MISSES:
            await self._clock.sleep(HEALTH_EVERY_S)
            misses = 0 if await self._probe() else misses + 1
        return "stopped answering"

    async def _until_ready(self) -> str | None:
        """Wait for the first real answer. What kept it from coming when that took too long, else None."""
        deadline, why = self._clock.monotonic() + self._spec.start_deadline_s, "did not load in time"
        while self._clock.monotonic() <= deadline:
            pause_s = LOADED_EVERY_S
            try:
                if await self._probe():
                    if self._proof is not None:
                        await self._proof()
                    return None
            except MorganError as err:
                why, pause_s = f"loaded, did not answer in time ({err.message.rstrip('.')})", HEALTH_EVERY_S
            await self._clock.sleep(pause_s)
        return why


class _LogFile(logging.handlers.RotatingFileHandler):
    """On a full disk lines are lost, which is told once and not for every line."""

    _lost = False

    def emit(self, record: logging.LogRecord) -> None:
        before, self._lost = self._lost, False
        super().emit(record)
        if self._lost and not before:
            log.warning("log cannot be written", extra={"file": self.baseFilename})

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - the base class's
        self._lost = True


class _Output:
    """Copies what a child prints into a rotated log file and remembers its last line."""

    def __init__(self, file: Path) -> None:
        self.last_line = ""
        self._handler = _LogFile(
            file, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8", errors="replace", delay=True
        )
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    async def copy(self, process: asyncio.subprocess.Process) -> None:
        if process.stdout is None:
            return
        try:
            while chunk := await process.stdout.read(64 * 1024):
                lines = chunk.decode(errors="replace").splitlines()
                self.last_line = next((line.strip() for line in reversed(lines) if line.strip()), self.last_line)
                await asyncio.to_thread(self._write, lines)
        finally:
            with contextlib.suppress(OSError):  # its last lines, on a full disk
                self._handler.close()

    def _write(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._handler.emit(logging.LogRecord("engine", logging.INFO, "", 0, line, (), None))


async def _end(process: asyncio.subprocess.Process, grace_s: float) -> None:
    """SIGTERM, a grace period, SIGKILL to the whole session; returns when the process is gone."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(grace_s):  # ``wait_for`` of Python 3.11 can swallow a cancellation
                await _gone(process)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await _gone(process)


def _close(process: asyncio.subprocess.Process) -> None:
    """Close its pipes: they stay open for as long as anybody has inherited them."""
    process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio gives no other way


async def _gone(process: asyncio.subprocess.Process) -> None:
    """``Process.wait`` waits for whoever has inherited its output, too, and so for ever for one that hangs."""
    waiting = asyncio.ensure_future(process.wait())
    try:
        while process.returncode is None:
            await asyncio.wait((waiting,), timeout=GONE_EVERY_S)
    finally:
        waiting.cancel()
