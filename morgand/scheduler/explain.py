"""Why roles are where they are: what ``morganctl roles explain`` shows."""

from __future__ import annotations

from dataclasses import dataclass

from morgand.scheduler.plan import passed_over, plan
from morgand.state.plans import Plan, Refusal, Snapshot
from morgand.state.roles import Assignment


@dataclass(frozen=True, slots=True)
class Explanation:
    """Placements with their reasons, what could not be placed, and per host why it was passed over."""

    placements: tuple[Assignment, ...]
    refusals: tuple[Refusal, ...]


def explain(snapshot: Snapshot, role: str | None = None) -> Explanation:
    """Run the planner on the snapshot and tell its reasons, each once; for one role or for all."""
    result = plan(snapshot)
    return Explanation(
        placements=tuple(one for one in result.assignments if role in (None, one.role)),
        refusals=tuple(one for one in _once(result, passed_over(snapshot)) if role in (None, one.role)),
    )


def _once(result: Plan, passed: tuple[Refusal, ...]) -> list[Refusal]:
    """One reason for each part and host: the one of the last choice. A summary of several hosts says nothing more, and
    whoever has the part was not passed over.
    """
    placed = {one.slot for one in result.assignments}
    last = {(one.role, one.part, one.host): one for one in passed}
    single = {slot: one for slot, one in last.items() if slot not in placed}
    parts = {(one.role, one.part) for one in passed}
    kept = [one for one in result.refusals if one.host is not None or (one.role, one.part) not in parts]
    return [*kept, *single.values()]
