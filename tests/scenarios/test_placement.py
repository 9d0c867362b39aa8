"""Plays the placement stories beside this file: ``roles_*.txt``, whose language the first one explains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from morgand.scheduler.plan import plan
from morgand.state.hosts import Duty, HostState
from morgand.state.plans import Plan, Snapshot
from tests.fakes.clusters import applied, host, snapshot, where

STORIES = sorted(Path(__file__).parent.glob("roles_*.txt"))


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.stem)
def test_story(story: Path) -> None:
    """What the story says holds, line by line."""
    world, result = snapshot(), None
    for number, line in enumerate(story.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if words[0] == "plan":
            result = plan(world)
            world = applied(world, result)
            assert plan(world).empty, f"line {number}: planning again changes something"
        elif words[0] in ("at", "none", "says"):
            assert result is not None, f"line {number}: nothing was planned yet"
            check(result, words, f"line {number}: {line}")
        else:
            world = happened(world, words)


def happened(world: Snapshot, words: list[str]) -> Snapshot:
    verb, name, *rest = words
    if verb == "host":
        duty = Duty.SOMETIMES if "sometimes" in rest else Duty.ALWAYS
        sizes = [float(word) for word in rest if word != "sometimes"]
        return replace(world, hosts=(*world.hosts, host(name, sizes[0], sizes[1:], duty=duty)))
    if verb == "lose":
        return replace(world, hosts=tuple(one for one in world.hosts if one.name != name))
    fates: dict[str, dict[str, Any]] = {
        "fence": {"state": HostState.FENCED}, "back": {"state": HostState.ALIVE},
        "drain": {"draining": True}, "resume": {"draining": False},
    }  # fmt: skip
    assert verb in fates, f"unknown word {verb}"
    hosts = tuple(replace(one, **fates[verb]) if one.name == name else one for one in world.hosts)
    return replace(world, hosts=hosts)


def check(result: Plan, words: list[str], line: str) -> None:
    verb, slot, *rest = words
    if verb == "at":
        assert where(result).get(slot) == rest[0], line
        return
    assert verb == "says" or slot not in where(result), line
    reasons = [one.reason for one in result.refusals if f"{one.role}/{one.part}" == slot]
    assert any(" ".join(rest) in reason for reason in reasons), f"{line}: {reasons}"
