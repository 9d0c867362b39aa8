"""Scenarios: short texts, one step a line, read into values and performed.

hosts atlas bolt comet delta ember
join all
expect settled within 60 s
chat through ember
power-cut holder of llm
expect roles elsewhere within 60 s
return
expect member within 60 s
expect no turn over 20 s
expect nothing lost
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

STEPS = {
    "hosts": r"hosts ((?:\w+ ?)+)",
    "multicast": r"no multicast",
    "interface": r"interface (\w+) (\S+) at (\w+)",
    "clock": r"clock of (\w+) (\d+) s ahead",
    "disk": r"(\w+) has a disk of (\d+) MB",
    "join": r"join all( by code)?",
    "add": r"join (\w+)",
    "remove": r"remove (\w+)",
    "bare": r"no host has models",
    "turns_in": r"join in turn and write",
    "last_ready": r"expect the roles of the last one ready within (\d+) s",
    "anybody": r"(power-cut|freeze|cut off|deafen|mute) anybody within (\d+) s",
    "others_write": r"expect writes through every other host within (\d+) s",
    "too_sure": r"expect no status was too sure",
    "kept": r"expect (\w+) cannot be removed: (.+)",
    "voters": r"expect (\d) voters? within (\d+) s",
    "says": r"expect status says: (.+)",
    "destroy": r"(\w+) is destroyed",
    "recover": r"recover on (\w+)",
    "revenants": r"((?:\w+ )+)come back and have to join anew",
    "refused": r"expect (\w+) is refused: (.+)",
    "addresses": r"expect every host is known by its address",
    "witness": r"(\w+) is a witness",
    "copied": r"expect (\w+) answers from a copy within (\d+) s",
    "queued": r"expect (\w+) keeps what is said",
    "sent": r"expect what was kept is stored within (\d+) s",
    "stored": r"expect (\w+) stores what is said within (\d+) s",
    "on": r"expect the primary on (\w+) within (\d+) s",
    "settled": r"expect settled within (\d+) s",
    "setting": r"set (\S+) to (\S+)",
    "database": r"expect a database with (\d+) copies, (\d+) of them synchronous, within (\d+) s",
    "same": r"expect status is the same everywhere",
    "places": r"expect (\S+) on (\w+)(?: within (\d+) s)?",
    "explains": r"expect explain agrees",
    "again": r"expect planning again changes nothing",
    "chat": r"chat through (\w+)( with answers)?",
    "strike": r"(power-cut|freeze|cut off|deafen|mute) (holder of (\S+)|leader|\w+)",
    "write": r"write through every host",
    "rounds": r"(\d+) rounds of (power-cut|freeze|cut off|deafen|mute|false alarm)(?: for the holder of (\S+))?",
    "worst_rounds": r"(\d+) rounds of (power-cut|freeze|cut off|deafen|mute) for the host that leads everything",
    "provocations": r"(\d+) rounds of provocation",
    "etcd_rounds": r"(\d+) rounds of (power-cut|freeze|cut off|deafen|mute) for the host that leads etcd",
    "busy": r"every host is busy",
    "blackouts": r"(\d+) times everything loses power, well again within (\d+) s",
    "loss": r"(\w+) loses (\d+) % of its packets",
    "late": r"(\w+) has (\d+) ms of delay, (\d+) ms of jitter",
    "deaf": r"(\w+) does not hear (\w+)",
    "heal": r"the network is well again",
    "slowable": r"(\w+) may get a slow disk",
    "slow": r"(\w+)'s disk is slow: (\d+) ms",
    "swift": r"(\w+)'s disk is swift again",
    "etcd": r"expect etcd of (\w+) is (?:up|(down)) within (\d+) s",
    "full": r"(\w+)'s disk is full(?: but for (\d+) MB)?",
    "emptied": r"(\w+)'s disk has space again",
    "readonly": r"(\w+)'s disk can only be read",
    "repaired": r"(\w+)'s disk is repaired",
    "warned": r"expect every status says within (\d+) s: (.+)",
    "away": r"expect (\S+)/(\w+) elsewhere within (\d+) s",
    "unwarned": r"expect no status says within (\d+) s: (.+)",
    "wait": r"wait (\d+) s",
    "elsewhere": r"expect roles elsewhere within (\d+) s",
    "back": r"return",
    "member": r"expect member within (\d+) s",
    "rolling": r"restart every host in turn",
    "release": r"every host runs the version of revision (\w+)",
    "upgrade": r"upgrade every host in turn",
    "contracted": r"expect the schema contracted within (\d+) s",
    "nobody": r"expect nothing happens",
    "leaders": r"expect one leader an epoch",
    "holders": r"expect one holder an epoch",
    "turns": r"expect no turn over (\d+) s",
    "lost": r"expect nothing lost",
    "isolated": r"expect nothing acknowledged by whom was cut off",
    "primaries": r"expect one writable primary",
    "limit": r"expect no (.+) over (\d+) s",
}
IN_ROUNDS = ("rounds", "etcd_rounds", "worst_rounds", "blackouts", "provocations")


@dataclass(frozen=True)
class Step:
    """One line: what, with what, and where it stands."""

    kind: str
    words: tuple[str, ...]
    line: int
    text: str


def parse(text: str) -> list[Step]:
    """Raises ValueError that names the line."""
    found = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.partition("#")[0].strip()
        if line:
            found.append(_step(number, line))
    if not found or found[0].kind != "hosts":
        raise ValueError("A scenario begins with its hosts: 'hosts atlas bolt ...'.")
    return found


def with_rounds(steps: list[Step], count: int) -> list[Step]:
    """The same with so many rounds, whatever the scenario says. Raises ValueError when it has none."""
    if not any(step.kind in IN_ROUNDS for step in steps):
        raise ValueError("This scenario has no rounds; --repeat plays it again as a whole.")
    return [replace(step, words=(str(count), *step.words[1:])) if step.kind in IN_ROUNDS else step for step in steps]


def _step(number: int, line: str) -> Step:
    for kind, pattern in STEPS.items():
        match = re.fullmatch(pattern, line)
        if match:
            return Step(kind, tuple(word or "" for word in match.groups()), number, line)
    raise ValueError(f"Line {number}: '{line}' is no step of a scenario; see tests/lab/scenario.py.")


Perform = Callable[[Step], None]


def perform(steps: list[Step], doers: dict[str, Perform]) -> None:
    """Do one step after the other; a failure names its line."""
    for step in steps:
        try:
            doers[step.kind](step)
        except AssertionError as err:
            raise AssertionError(f"line {step.line}: {step.text}\n{err}") from err
