"""What goes wrong, and when: a story is made from a seed, or written down by hand."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

NAMES = "abcde"
CALM_S = 2.5  # before the first fault
SPAN_S = 6.0  # within which faults begin


class Kind(StrEnum):
    CRASH = "crash"  # gone
    RESTART = "restart"  # gone, and back with a new boot
    FREEZE = "freeze"  # nothing of it runs; what is sent to it waits
    SLEEP = "sleep"  # nothing of it runs; beats that are sent to it are lost
    PARTITION = "partition"  # between ``who`` and ``others``; all others when that is empty
    MUTE = "mute"  # what ``who`` sends does not arrive at ``others``
    LOSS = "loss"
    JITTER = "jitter"
    SLOW_STORE = "slow store"
    DETECTOR = "detector restarts"


@dataclass(frozen=True, slots=True)
class Fault:
    """``who`` and ``others`` are hosts, one letter each. ``amount``: a share that is lost, or the longest delay."""

    at: float
    kind: Kind
    lasts_s: float
    who: str = ""
    others: str = ""
    amount: float = 0.0
    remembers: bool = False  # RESTART: it begins with what it knew when it went


@dataclass(frozen=True, slots=True)
class Story:
    """``ends`` is when all faults are over. ``work_s`` is how long a request takes at most."""

    seed: int
    hosts: str
    voters: str
    faults: tuple[Fault, ...]
    ends: float
    engines: tuple[str, ...] = ()
    way_s: float = 0.002
    store_s: tuple[float, float] = (0.002, 0.015)
    work_s: float = 0.05
    revive: bool = True  # whoever crashed comes back at the end


def story_of(seed: int) -> Story:
    chance = random.Random(seed)
    hosts = NAMES[: chance.choice((3, 3, 4, 5))]
    voters = hosts[:1] if chance.random() < 0.2 else "".join(sorted(chance.sample(hosts, 3)))
    if len(hosts) > len(voters) > 1 and chance.random() < 0.25:
        faults = _by_turns(chance, hosts, voters)
    else:
        faults = tuple(sorted((_fault(chance, hosts) for _ in range(chance.randint(1, 4))), key=lambda one: one.at))
    ends = max(CALM_S + SPAN_S, *(one.at + one.lasts_s for one in faults)) + chance.uniform(0.0, 2.0)
    return Story(
        seed, hosts, voters, faults, ends, engines=("redis",) if chance.random() < 0.5 else (),
        way_s=chance.choice((0.001, 0.005, 0.02)), store_s=(0.001, chance.choice((0.005, 0.03, 0.1, 0.4))),
        work_s=chance.choice((0.01, 0.1, 2.0)), revive=chance.random() < 0.5,
    )  # fmt: skip


def _by_turns(chance: random.Random, hosts: str, voters: str) -> tuple[Fault, ...]:
    """A host that does not vote is cut off from one voter and then from another, which hears the first no more."""
    victim = chance.choice([one for one in hosts if one not in voters])
    first, second, _ = chance.sample(voters, 3)
    at, lasts_s = CALM_S + chance.random(), chance.uniform(1.2, 2.5)
    deaf, then = at + chance.uniform(1.1, lasts_s), at + lasts_s + chance.uniform(0.5, 2.5)
    return (
        Fault(at, Kind.PARTITION, lasts_s, victim, first),
        Fault(deaf, Kind.MUTE, then - deaf + 3.0, first, second),
        Fault(then, Kind.PARTITION, chance.uniform(1.5, 3.0), victim, second),
    )


def _fault(chance: random.Random, hosts: str) -> Fault:
    kind = chance.choice(tuple(Kind))
    at = CALM_S + chance.random() * SPAN_S
    return _of_a_host(chance, kind, at, chance.choice(hosts)) or _of_the_network(chance, kind, at, hosts)


def _of_a_host(chance: random.Random, kind: Kind, at: float, who: str) -> Fault | None:
    match kind:
        case Kind.CRASH:
            return Fault(at, kind, 0.0, who)
        case Kind.RESTART:
            return Fault(at, kind, chance.choice((0.1, 0.6, 1.2, 3.0)), who, remembers=chance.random() < 0.5)
        case Kind.FREEZE:
            return Fault(at, kind, chance.choice((0.3, 0.7, 0.9, 1.1, 1.5, 3.0, 6.0)) * chance.uniform(0.9, 1.1), who)
        case Kind.SLEEP:
            return Fault(at, kind, chance.uniform(2.1, 6.0), who)
        case Kind.DETECTOR:
            return Fault(at, kind, chance.choice((0.2, 0.5, 1.5, 2.5)), who)
        case _:
            return None


def _of_the_network(chance: random.Random, kind: Kind, at: float, hosts: str) -> Fault:
    lasts_s = chance.uniform(0.5, 6.0)
    match kind:
        case Kind.PARTITION:
            return Fault(at, kind, lasts_s, "".join(chance.sample(hosts, chance.randint(1, len(hosts) // 2))))
        case Kind.MUTE:
            some = "".join(chance.sample(hosts, chance.randint(2, len(hosts))))
            who, others = some[:1], some[1:]
            deaf = chance.random() < 0.5
            return Fault(at, kind, lasts_s, others if deaf else who, who if deaf else others)
        case Kind.LOSS:
            return Fault(at, kind, lasts_s, amount=chance.uniform(0.0, 0.3))
        case Kind.JITTER:
            return Fault(at, kind, lasts_s, amount=chance.choice((0.02, 0.1, 0.3)))
        case _:
            return Fault(at, kind, lasts_s, amount=chance.choice((0.4, 1.0, 2.0)))
