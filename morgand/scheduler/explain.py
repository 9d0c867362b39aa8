"""Why roles are where they are: what ``morganctl roles explain`` shows."""

from __future__ import annotations

from dataclasses import dataclass

from morgand.scheduler.plan import passed_over, plan
from morgand.state.plans import Refusal, Snapshot
from morgand.state.roles import Assignment


@dataclass(frozen=True, slots=True)
class Explanation:
    """Placements with their reasons, what could not be placed, and per host why it was passed over."""

    placements: tuple[Assignment, ...]
    refusals: tuple[Refusal, ...]


def explain(snapshot: Snapshot, role: str | None = None) -> Explanation:
    """Run the planner on the snapshot and tell its reasons, each once; for one role or for all."""
    result = plan(snapshot)
    refusals = dict.fromkeys((*result.refusals, *passed_over(snapshot)))
    return Explanation(
        placements=tuple(one for one in result.assignments if role in (None, one.role)),
        refusals=tuple(one for one in refusals if role in (None, one.role)),
    )
