"""The difference between what holds and what should: which assignments are new, which end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from morgand.state.roles import Assignment


@dataclass(frozen=True, slots=True)
class PlanDifference:
    assignments: tuple[Assignment, ...]
    added: tuple[Assignment, ...]
    removed: tuple[Assignment, ...]


def difference(current: Iterable[Assignment], wanted: Iterable[Assignment]) -> PlanDifference:
    """What stays keeps its epoch; what is new, moved, or gets another engine or model takes the wanted one's.

    A changed assignment stands in ``removed`` as it was and in ``added`` as it will be.
    """
    before = {one.slot: one for one in current}
    kept: list[Assignment] = []
    added: list[Assignment] = []
    for one in wanted:
        old = before.get(one.slot)
        if old is not None and runs_the_same(old, one):
            kept.append(replace(old, why=one.why))
            del before[one.slot]
        else:
            added.append(one)
    whole = sorted((*kept, *added), key=lambda one: one.slot)
    return PlanDifference(
        assignments=tuple(whole),
        added=tuple(sorted(added, key=lambda one: one.slot)),
        removed=tuple(sorted(before.values(), key=lambda one: one.slot)),
    )


def runs_the_same(one: Assignment, other: Assignment) -> bool:
    return (one.engine, one.model, one.gpu) == (other.engine, other.model, other.gpu)
