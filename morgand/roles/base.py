"""What a role is to the host that performs it: a service that runs until it is told to stop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from morgand.base.clock import Clock
from morgand.base.errors import EngineError, MorganError
from morgand.config import Config
from morgand.process.nice import PEOPLE, Priority
from morgand.process.supervisor import Child, ChildSpec, Report
from morgand.roles.process import EngineClient
from morgand.state.roles import Assignment, Model, RoleState

LOAD_S = 600.0  # until an engine's first answer: a large model on a slow disk, or a machine that has much else to do


class RoleService(Protocol):
    """Performs one assignment."""

    async def run(self, report: Report) -> None:
        """Perform the role until cancelled, saying through ``report`` how it is. Cleans up after itself."""
        ...


@dataclass(frozen=True, slots=True)
class HostContext:
    """What services on this host share."""

    data_dir: Path
    run_dir: Path  # sockets; short enough for a Unix socket path
    log_dir: Path
    config: Callable[[], Config]
    clock: Clock
    locate: Callable[[str], Path]  # model name -> its files; raises EngineError with the remedy

    def socket(self, role: str) -> Path:
        return self.run_dir / f"{role}.sock"


ServiceFactory = Callable[[Assignment], RoleService]


class ProcessService:
    """A role whose engine is a program of ours in a process of its own.

    ``eager``: people wait until it is loaded. ``priority``: how it stands back from then on. ``proof`` has the engine
    do once what the role is for: what says that it is healthy may still take long to answer.
    """

    def __init__(
        self, context: HostContext, role: str, module: str, options: Callable[[], Mapping[str, Any]],
        *, proof: Callable[[EngineClient], Awaitable[object]] | None = None, eager: bool = False,
        priority: Priority = PEOPLE,
    ) -> None:  # fmt: skip
        self._context, self._eager, self._priority, self._proof = context, eager, priority, proof
        self._role = role
        self._module = module
        self._options = options

    async def run(self, report: Report) -> None:
        """Raises nothing for a missing model: that is reported, with the remedy, and looked for again."""
        client = EngineClient(self._context.socket(self._role), self._role)
        try:
            options = await self._until_found(report)
            proof = partial(self._proof, client) if self._proof is not None else None
            await Child(self._spec(options), client.healthy, self._context.clock, proof=proof).run(report)
        finally:
            await client.close()
            self._context.socket(self._role).unlink(missing_ok=True)

    async def _until_found(self, report: Report) -> Mapping[str, Any]:
        while True:
            try:
                return self._options()
            except EngineError as err:
                report(RoleState.FAILED, str(err))
                await self._context.clock.sleep(10.0)

    def _spec(self, options: Mapping[str, Any]) -> ChildSpec:
        return ChildSpec(
            name=self._role,
            argv=(sys.executable, "-m", self._module, "--socket", str(self._context.socket(self._role))),
            options=options,
            log_file=self._context.log_dir / f"{self._role}.log",
            priority=self._priority,
            start_deadline_s=LOAD_S,
            eager=self._eager,
        )


class EmbeddedService:
    """A role the daemon performs inside itself: opened, checked now and then, closed."""

    def __init__(self, opened: Callable[[], Any], check: Callable[[], Any], close: Callable[[], Any], clock: Clock):
        self._open, self._check, self._close, self._clock = opened, check, close, clock

    async def run(self, report: Report) -> None:
        """``opened``, ``check`` and ``close`` are async callables; a MorganError they raise is reported."""
        try:
            await self._open()
            while True:
                try:
                    await self._check()
                    report(RoleState.READY, None)
                except MorganError as err:
                    report(RoleState.FAILED, str(err))
                await self._clock.sleep(5.0)
        finally:
            await asyncio.shield(self._close())


def model_files(context: HostContext, model: Model | None) -> Path:
    """Where the assigned model's files are. Raises EngineError when there is none."""
    if model is None:
        raise EngineError("No model is assigned.", remedy="See `morganctl roles explain`.")
    return context.locate(model.name)
