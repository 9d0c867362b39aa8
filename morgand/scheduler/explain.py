"""Why roles are where they are, in words: what ``morganctl roles explain`` prints."""

from __future__ import annotations

from dataclasses import dataclass

from morgand.scheduler.plan import passed_over, plan
from morgand.state import Assignment, Refusal, Snapshot


@dataclass(frozen=True, slots=True)
class Explanation:
    """Placements with their reasons, what could not be placed, and per host why it was passed over."""

    placements: tuple[Assignment, ...]
    refusals: tuple[Refusal, ...]

    def lines(self, snapshot: Snapshot) -> list[str]:
        """The explanation as text, role by role."""
        names = {host.id: host.name for host in snapshot.hosts}
        text: list[str] = []
        for spec in snapshot.roles:
            placed = [one for one in self.placements if one.role == spec.name]
            refused = [one for one in self.refusals if one.role == spec.name]
            if not placed and not refused:
                continue
            text.append(f"{spec.name}: {spec.purpose}")
            text += [
                f"  {one.part} on {names[one.host]} with {one.engine}, {one.model or 'no model'}: {one.why}"
                for one in placed
            ]
            text += [
                f"  {one.part} not on {names[one.host]}: {one.reason}"
                if one.host is not None
                else f"  {one.part} has no further host: {one.reason}"
                for one in refused
            ]
        return text


def explain(snapshot: Snapshot, role: str | None = None) -> Explanation:
    """Run the planner on the snapshot and tell its reasons, for one role or for all."""
    result = plan(snapshot)
    refusals = (*(one for one in result.refusals), *passed_over(snapshot))
    return Explanation(
        placements=tuple(one for one in result.assignments if role in (None, one.role)),
        refusals=tuple(one for one in refusals if role in (None, one.role)),
    )
