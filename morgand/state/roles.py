"""Roles as values: what a role asks of hosts, which host holds which part of it, and how it stands there.

Units stand last in names (``_mb`` MiB, ``_s`` seconds, ``_ms`` milliseconds).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

COMING_S = 2.0  # who comes to the database's next primary waits there for so long; busy machines take more than 1 s


class RoleState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Model:
    """One line of the model catalogue: a neural network at one size.

    ``ram_mb``/``vram_mb`` are what it needs loaded, context included.
    """

    name: str
    role: str
    source: str  # file:PACKAGE/PATH, gguf:URL, ollama:TAG
    size_mb: int
    ram_mb: int
    vram_mb: int
    context_tokens: int
    prompt_tokens: int  # budget for passages in one prompt: what the model can use and the hardware bears
    licence: str
    sha256: str | None = None
    engines: tuple[str, ...] = ()

    @property
    def handle(self) -> str:
        """How a profile names this model: Ollama keeps its own store, so its tags are told apart from files."""
        return self.source if self.source.startswith("ollama:") else self.name


class GpuUse(StrEnum):
    """What an engine does with a GPU."""

    NEVER = "never"
    MAY = "may"
    MUST = "must"


@dataclass(frozen=True, slots=True)
class EngineOption:
    """An engine that can perform a role."""

    name: str
    gpu: GpuUse = GpuUse.NEVER
    bound: bool = False  # what it stores is on its host alone: the role stays there, even while the host is away
    elects: bool = False  # it decides itself which host has the first part: the plan follows it, and never moves that
    hosts: int = 1  # it is of use only where so many hosts can run it


class Rank(StrEnum):
    """What makes a host better for a role. Classes (``..-first``) count before measures."""

    ALWAYS_FIRST = "always-first"  # hosts that are on all the time
    NO_GPU_FIRST = "no-gpu-first"  # leave GPU hosts to the models
    VRAM = "vram"  # largest VRAM; among hosts without a GPU, most RAM
    MODERATE_VRAM = "moderate-vram"  # smallest VRAM of at least ``preferred_vram_mb``; else most RAM
    RAM = "ram"
    DISK = "disk"


class Distance(StrEnum):
    FORBIDDEN = "forbidden"  # never on one host
    AVOIDED = "avoided"  # on one host only when there is no other


@dataclass(frozen=True, slots=True)
class Apart:
    """Anti-affinity to a part of another role."""

    role: str
    part: str
    distance: Distance = Distance.FORBIDDEN


@dataclass(frozen=True, slots=True)
class Part:
    """A share of a role: ``low`` of it must run if the part is required, up to ``high`` run if hosts fit."""

    name: str
    low: int = 1
    high: int = 1
    required: bool = True
    apart: tuple[Apart, ...] = ()
    engines: tuple[str, ...] = ()  # only with these, and not with a lesser one than the first part's; any when empty


@dataclass(frozen=True, slots=True)
class RoleSpec:
    """What a role asks of hosts. A host holds at most one part of a role.

    ``ram_mb``, ``vram_mb`` and ``disk_mb`` are needs of a role without a model; a model brings its own.
    """

    name: str
    purpose: str
    parts: tuple[Part, ...]
    engines: tuple[EngineOption, ...]
    rank: tuple[Rank, ...]
    ram_mb: int = 0
    vram_mb: int = 0
    disk_mb: int = 0
    preferred_vram_mb: int = 0
    needs_model: bool = False
    keep_model: bool = False  # what it made depends on the model (embeddings): changed only when no host can run it
    exclusive: bool = False  # only one host at a time may act as its first part
    single_writer: bool = False  # only its first part answers calls: a standby may be behind
    spread: bool = False  # busy for seconds at a call: of several hosts the idlest is asked first
    patience_s: float = 0.0  # how long a call waits for it while it moves; what can be done without is not waited for
    vital: bool = False  # without it nothing is answered
    needed: bool = False  # without it answers are worse: a person is told when it is placed nowhere
    feeds_ingestion: bool = False  # what was ingested is compared with it at once when it moves or comes back

    def binds(self, engine: str) -> bool:
        """Whether the role cannot leave the host that performs it with this engine: what it stores is there."""
        return any(one.name == engine and one.bound for one in self.engines)

    def elects(self, engine: str) -> bool:
        """Whether this engine decides itself which host acts as the first part, and ends what no longer may."""
        return any(one.name == engine and one.elects for one in self.engines)

    def keeps(self, engine: str, part: str) -> bool:
        """Whether no plan moves this part from the host that has it."""
        return self.binds(engine) or (self.elects(engine) and part == self.parts[0].name)

    def prefers(self, engine: str, other: str) -> bool:
        """Whether an engine is to take another's place where both can be had."""
        names = [one.name for one in self.engines]
        return engine in names and other in names and names.index(engine) < names.index(other)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Role to host, with its epoch."""

    role: str
    part: str
    host: str
    engine: str
    epoch: int
    why: str
    model: str | None = None
    ram_mb: int = 0
    vram_mb: int = 0
    gpu: int | None = None  # index into the host's GPUs, None for CPU

    @property
    def slot(self) -> tuple[str, str, str]:
        """What makes two assignments the same placement."""
        return (self.role, self.part, self.host)


@dataclass(frozen=True, slots=True)
class RolePreference:
    """What the person asked for: ``[roles.llm] prefer = [..]``."""

    prefer: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    model: str | None = None


@dataclass(frozen=True, slots=True)
class RoleFailure:
    """A role that a host could not perform, in spite of restarts; ``reason`` is the last one, in words."""

    role: str
    reason: str


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """What a host says about one of its assignments."""

    role: str
    part: str
    host: str
    state: RoleState
    epoch: int
    why: str
    model: str | None = None
    detail: str | None = None  # the last failure, in words, with the remedy
