"""Many seeds, on all cores."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.simulation.story import story_of
from tests.simulation.world import Broken, Outcome, play

CHUNK = 25


@dataclass(frozen=True, slots=True)
class Counts:
    """What many stories came to. ``broken``: by seed, the whole message."""

    seeds: int
    broken: dict[int, str]
    actions: int
    fenced: int
    elections: int
    slowest_s: float  # the longest that it took until all was well again


def play_seed(seed: int) -> Outcome | str:
    """The outcome, or how it failed."""
    try:
        return play(story_of(seed))
    except Broken as err:
        return str(err)


def _calm() -> None:
    """What is imported is no garbage, and little else is: looking for it takes a seventh of the time."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def play_all(seeds: Iterable[int], workers: int | None = None) -> Counts:
    wanted = list(seeds)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers or multiprocessing.cpu_count(), mp_context=context, initializer=_calm) as pool:
        found = dict(zip(wanted, pool.map(play_seed, wanted, chunksize=CHUNK), strict=True))
    well = [one for one in found.values() if isinstance(one, Outcome)]
    return Counts(
        len(found), {seed: one for seed, one in found.items() if isinstance(one, str)},
        sum(one.actions for one in well), sum(one.fenced for one in well), sum(one.elections for one in well),
        max((one.well_s for one in well), default=0.0),
    )  # fmt: skip
