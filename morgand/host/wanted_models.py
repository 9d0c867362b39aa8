"""Fetches in the background what this host would run if it had it; the plan upgrades itself once the profile lists it.

What is wanted follows from the snapshot alone, and is looked at again whenever the store changes: profiles, settings
and assignments stand there. A download that is no longer wanted ends, and goes on from there if it is wanted again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from morgand.base.clock import Clock
from morgand.base.errors import EngineError, MorganError, StorageFull
from morgand.cluster.fencing import INPUTS
from morgand.cluster.mirror import Mirror
from morgand.cluster.snapshot import Inputs, read_snapshot
from morgand.roles.downloads import DownloadPatience, download
from morgand.scheduler.plan import plan
from morgand.state.plans import Snapshot
from morgand.state.roles import Model

log = logging.getLogger("morgand.models")

LOOK_EVERY_S = 300.0  # even if nothing was heard: a host's probation ends without a word
RETRY_S = 30.0  # after the first failure; doubled after each further one
LONGEST_S = 3600.0
SPOILED_S = 24 * 3600.0  # after a file that came whole and is not what the catalogue says: it would be the same again
PATIENCE = DownloadPatience()
SETTLE_S = 60.0  # for the profile to list what has come


@dataclass(frozen=True, slots=True)
class Again:
    """When a model may be tried again (monotonic seconds), and why not before. ``fault`` is one a person can mend."""

    at_s: float
    failures: int = 0
    fault: str | None = None


def wanted_models(snapshot: Snapshot, host_id: str) -> tuple[Model, ...]:
    """Models this host would run if it had their files, and that can be fetched: each once."""
    handles = tuple(sorted({model.handle for model in snapshot.models}))
    able = tuple(replace(host, profile=replace(host.profile, models=handles)) for host in snapshot.hosts)
    mine = next((host for host in snapshot.hosts if host.id == host_id), None)
    if mine is None:
        return ()
    wanted = {(one.role, one.model, one.engine) for one in plan(replace(snapshot, hosts=able)).assignments
              if one.host == host_id}  # fmt: skip
    found = {
        model.name: model
        for model in snapshot.models
        if model.source.startswith("gguf:") and model.handle not in mine.profile.models
        and any((model.role, model.name, engine) in wanted for engine in model.engines)
    }  # fmt: skip
    return tuple(found.values())


def next_step(wanted: Sequence[Model], again: Mapping[str, Again], now_s: float) -> Model | float:
    """What to fetch now, or for how long nothing is to be done unless something changes."""
    waits_s = [LOOK_EVERY_S]
    for model in wanted:
        later = again.get(model.name)
        if later is None or later.at_s <= now_s:
            return model
        waits_s.append(later.at_s - now_s)
    return min(waits_s)


def after_failure(before: Again | None, err: MorganError, now_s: float) -> Again:
    """When to try again: the more often it has failed the later."""
    failures = 1 + (before.failures if before is not None else 0)
    if isinstance(err, EngineError):
        return Again(now_s + SPOILED_S, failures, str(err))
    pause_s = min(RETRY_S * 2 ** min(failures - 1, 10), LONGEST_S)
    return Again(now_s + pause_s, failures, str(err) if isinstance(err, StorageFull) else None)


class WantedModels:
    """``run`` is a task. ``fetched`` is told when a model has come, ``allowed`` whether anything may be fetched."""

    def __init__(
        self, me: str, models_dir: Path, *, mirror: Mirror, inputs: Callable[[], Inputs], allowed: Callable[[], bool],
        fetched: Callable[[], Awaitable[None]], clock: Clock, patience: DownloadPatience = PATIENCE,
    ) -> None:  # fmt: skip
        self._me, self._models_dir, self._mirror, self._clock = me, models_dir, mirror, clock
        self._inputs, self._allowed, self._fetched, self._patience = inputs, allowed, fetched, patience
        self._again: dict[str, Again] = {}
        self._under_way: tuple[str, int, int] | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            changed = self._mirror.next()
            wanted = self._wanted()
            names = {model.name for model in wanted}
            # what is wanted anew, say because somebody chose it again, is tried at once
            self._again = {name: later for name, later in self._again.items() if name in names}
            step = next_step(wanted, self._again, self._clock.monotonic())
            if isinstance(step, Model):
                await self._fetch(step)
            else:
                await self._pause(changed, step)

    def notes(self) -> list[str]:
        """What a person should know about it: what is on its way, and what somebody must mend."""
        told = [f"The model {name} is not fetched: {later.fault}" for name, later in self._again.items() if later.fault]
        if self._under_way is not None:
            name, done, total = self._under_way
            share = f" ({done * 100 // total} %)" if total else ""
            told.append(f"The model {name} is being fetched{share}; until then a smaller one answers.")
        return told

    def _wanted(self) -> tuple[Model, ...]:
        if not self._allowed():
            return ()
        return wanted_models(read_snapshot(self._mirror.view, self._inputs()), self._me)

    async def _fetch(self, model: Model) -> None:
        """Fetch it for as long as it is wanted."""

        def note(done: int, total: int) -> None:
            self._under_way = (model.name, done, total)

        task = asyncio.create_task(download(model, self._models_dir, note, self._patience))
        try:
            await self._while_wanted(model, task)
            if not task.done():
                log.info("model no longer wanted", extra={"model": model.name})
                return
            task.result()
            self._again[model.name] = Again(self._clock.monotonic() + SETTLE_S)
        except MorganError as err:
            later = after_failure(self._again.get(model.name), err, self._clock.monotonic())
            self._again[model.name] = later
            log.warning(
                "model not fetched", extra={"model": model.name, "reason": err.message, "tries": later.failures}
            )
            return
        finally:
            self._under_way = None
            task.cancel()
            await asyncio.wait((task,))
        await self._fetched()

    async def _while_wanted(self, model: Model, task: asyncio.Task[Path]) -> None:
        """Return when it has come or failed, or is no longer wanted."""
        seen = self._inputs_seen()
        while not task.done():
            changed = asyncio.ensure_future(self._mirror.next().wait())
            try:
                if (now := self._inputs_seen()) != seen:
                    seen = now
                    if model.name not in {one.name for one in self._wanted()}:
                        return
                await asyncio.wait((task, changed), return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()

    def _inputs_seen(self) -> list[tuple[str, int]]:
        """What a snapshot is read from, as a mark of its version."""
        return [(one.key, one.mod_revision) for one in self._mirror.list("/") if one.key.startswith(INPUTS)]

    async def _pause(self, changed: asyncio.Event, within_s: float) -> None:
        """Wait until the inputs have changed, or for ``within_s``."""
        seen = self._inputs_seen()
        timer = asyncio.ensure_future(self._clock.sleep(within_s))
        try:
            while not timer.done() and self._inputs_seen() == seen:
                hearing = asyncio.ensure_future(changed.wait())
                try:
                    await asyncio.wait((timer, hearing), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    hearing.cancel()
                changed = self._mirror.next()
        finally:
            timer.cancel()
