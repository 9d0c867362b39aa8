"""The host's loop: make this host's part of the plan true, and say how it stands.

``reconcile`` is the decision (values in, values out); the loop performs it. An assignment of an older epoch
than the one that runs is refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from morgand.base.aio import isolated_task
from morgand.base.clock import Clock
from morgand.base.errors import MorganError, first_of
from morgand.process.supervisor import Report, recent_ends, restart_delay
from morgand.roles.base import ServiceFactory
from morgand.roles.lifecycle import REPORTED, SHOWN, LifecycleEvent, Phase, step
from morgand.state.roles import Assignment, RoleState, RoleStatus

log = logging.getLogger("morgand.runner")

Key = str  # the role: a host holds at most one part of it, and a standby becomes the main one without a restart
RETRY_S = 10.0


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What has to change on this host."""

    start: tuple[Assignment, ...] = ()
    stop: tuple[Key, ...] = ()
    keep: tuple[Assignment, ...] = ()  # runs as it should; only part, epoch or reason may be new
    refused: tuple[Assignment, ...] = ()  # older than what runs


def reconcile(wanted: Iterable[Assignment], running: Mapping[Key, Assignment]) -> Reconciliation:
    """The difference between what should run here and what does."""
    by_key = {one.role: one for one in wanted}
    refused = tuple(one for key, one in by_key.items() if key in running and one.epoch < running[key].epoch)
    fresh = {key: one for key, one in by_key.items() if one not in refused}
    same = {key for key, one in fresh.items() if key in running and _same_engine(one, running[key])}
    return Reconciliation(
        start=tuple(one for key, one in fresh.items() if key not in same),
        stop=tuple(key for key in running if key not in by_key or (key in fresh and key not in same)),
        keep=tuple(fresh[key] for key in fresh if key in same),
        refused=refused,
    )


def _same_engine(one: Assignment, other: Assignment) -> bool:
    return (one.engine, one.model) == (other.engine, other.model)


@dataclass(slots=True)
class _Running:
    assignment: Assignment
    phase: Phase
    detail: str | None
    task: asyncio.Task[None]


class Runner:
    """Runs services for this host's assignments. Call ``apply`` whenever they change, ``stop`` at the end."""

    def __init__(self, factory: ServiceFactory, clock: Clock, on_change: Callable[[RoleStatus], None]) -> None:
        self._factory = factory
        self._clock = clock
        self._on_change = on_change
        self._running: dict[Key, _Running] = {}

    def statuses(self) -> list[RoleStatus]:
        return [self._status(one) for one in self._running.values()]

    async def apply(self, wanted: Iterable[Assignment]) -> None:
        """Bring this host to exactly these assignments."""
        work = reconcile(wanted, {key: one.assignment for key, one in self._running.items()})
        for one in work.refused:
            log.warning("assignment refused", extra={"role": one.role, "epoch": one.epoch, "reason": "older epoch"})
        for one in work.keep:  # before the wait for those that stop, which for a database can be long
            self._keep(one)
        await asyncio.gather(*(self._withdraw(key) for key in work.stop))
        for one in work.start:
            self._start(one)

    def _keep(self, assignment: Assignment) -> None:
        running = self._running[assignment.role]
        told, running.assignment = running.assignment, assignment
        if told.slot != assignment.slot or told.epoch != assignment.epoch:
            self._on_change(self._status(running))

    async def stop(self) -> None:
        """Withdraw everything, in reverse order of starting."""
        for key in reversed(list(self._running)):
            await self._withdraw(key)

    def _start(self, assignment: Assignment) -> None:
        key = assignment.role
        task = asyncio.create_task(self._perform(key, assignment), name=f"role-{assignment.role}")
        self._running[key] = _Running(assignment, Phase.STARTING, None, task)
        log.info(
            "role starting",
            extra={"role": assignment.role, "engine": assignment.engine, "model": assignment.model,
                   "epoch": assignment.epoch},
        )  # fmt: skip

    async def _perform(self, key: Key, assignment: Assignment) -> None:
        """One attempt after the other for as long as the plan wants the role here.

        A service must not end by itself. A reason it tells is looked at again every RETRY_S; a defect is met like the
        end of an engine's process: started again soon, and failed when that happens too often.
        """

        def report(state: RoleState, detail: str | None) -> None:
            self._step(key, REPORTED[state], detail)

        ends: list[float] = []
        while True:
            told, reason = await self._attempt(assignment, report)
            if told:
                report(RoleState.FAILED, reason)
                await self._clock.sleep(RETRY_S)
                continue
            ends = recent_ends(ends, self._clock.monotonic())
            restart = restart_delay(ends, ends[-1])
            report(RoleState.FAILED if restart.failed else RoleState.STARTING, reason)
            await self._clock.sleep(restart.delay_s)

    async def _attempt(self, assignment: Assignment, report: Report) -> tuple[bool, str]:
        """Perform it until it ends: whether it says itself why, and the reason in words."""
        try:
            await isolated_task(self._factory(assignment).run(report))
        except MorganError as err:
            return True, str(err)
        except Exception as err:  # supervisor of all services: a defect of one costs its role, for a while
            told, defects = _parted(err)
            if told is not None and defects is None:  # a service's tasks fail together
                return True, str(first_of(told))
            log.exception("role defect", extra={"role": assignment.role})
            return False, f"A defect ended it: {_first(defects or err)!r}. The log has the details."
        return False, "It ended by itself."

    async def _withdraw(self, key: Key) -> None:
        running = self._running[key]
        if running.phase is not Phase.STOPPING:  # else ``apply`` has begun to, and was broken off
            self._step(key, LifecycleEvent.WITHDRAW, None)
            running.task.cancel()
        await asyncio.wait([running.task])
        last = self._status(running)
        running.phase = step(running.phase, LifecycleEvent.END)
        del self._running[key]
        self._on_change(last)  # whoever tells of this host's roles looks again: this one is gone

    def _step(self, key: Key, event: LifecycleEvent, detail: str | None) -> None:
        running = self._running[key]
        before = running.phase
        running.phase, running.detail = step(before, event), detail
        if running.phase is not before:
            status = self._status(running)
            log.info(
                "role changed",
                extra={"role": status.role, "state": status.state.value, "detail": detail, "epoch": status.epoch},
            )
            self._on_change(status)

    def _status(self, running: _Running) -> RoleStatus:
        one = running.assignment
        return RoleStatus(
            role=one.role, part=one.part, host=one.host, state=SHOWN[running.phase], epoch=one.epoch,
            why=one.why, model=one.model, detail=running.detail,
        )  # fmt: skip


def _parted(err: Exception) -> tuple[BaseExceptionGroup[MorganError] | None, BaseException | None]:
    """Errors that say what is wrong, and the rest."""
    return err.split(MorganError) if isinstance(err, ExceptionGroup) else (None, err)


def _first(err: BaseException) -> BaseException:
    return _first(err.exceptions[0]) if isinstance(err, BaseExceptionGroup) else err
