"""Hosts as values: what a machine has, how it stands, and what others see of it.

Units stand last in names (``_mb`` MiB, ``_s`` seconds, ``_ms`` milliseconds).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from morgand.base.disk import Disk
from morgand.state.host_names import display_name


class Duty(StrEnum):
    """Whether a host is meant to be on all the time."""

    ALWAYS = "always"
    SOMETIMES = "sometimes"


class HostState(StrEnum):
    ALIVE = "alive"
    SUSPECT = "suspect"
    FENCED = "fenced"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    vram_mb: int
    vendor: str = "unknown"  # nvidia | amd | apple | unknown
    driver: str | None = None
    cuda: str | None = None
    compute_capability: str | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """The interface others reach this host by."""

    interface: str
    address: str
    wired: bool


@dataclass(frozen=True, slots=True)
class Engine:
    """A program this host can run, under its catalogue name (``llama.cpp``, ``onnx``, ``sqlite`` ...)."""

    name: str
    version: str
    path: str


@dataclass(frozen=True, slots=True)
class Profile:
    """What a host has."""

    ram_mb: int
    cpu_model: str
    cpu_cores: int
    os: str  # linux | darwin | windows
    arch: str  # x86_64 | arm64
    disk: Disk
    network: Network
    gpus: tuple[Gpu, ...] = ()
    engines: tuple[Engine, ...] = ()
    laptop: bool = False
    duty: Duty = Duty.ALWAYS
    models: tuple[str, ...] = ()  # models whose files are on this host, each by its ``Model.handle``
    witness: bool = False  # it votes and does nothing else

    @property
    def vram_mb(self) -> int:
        """VRAM of the largest GPU; a model is never split over GPUs if it fits one."""
        return max((gpu.vram_mb for gpu in self.gpus), default=0)

    def has_engine(self, name: str) -> bool:
        return any(engine.name == name for engine in self.engines)


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that runs morgand, as the planner sees it."""

    id: str
    name: str
    address: str
    profile: Profile
    state: HostState = HostState.ALIVE
    labels: tuple[str, ...] = ()
    draining: bool = False
    on_probation: bool = False  # was given up a moment ago: not yet trusted with what only one may hold
    new: bool = False  # joined a moment ago
    suffix: str = ""  # the first letters of its id, where another host has the same name

    @property
    def display_name(self) -> str:
        """What people read: it tells this host from all the others."""
        return display_name(self.name, self.suffix)

    @property
    def handle(self) -> str:
        """What people type for it."""
        return self.suffix or self.name


@dataclass(frozen=True, slots=True)
class PeerHealth:
    """What one host sees of another. ``dead``: agreed by a majority of the other voters.

    ``well_s``: for how long it has been heard, has heard us, and has held its lease, without a break. ``quiet``: it got
    nothing from us for as long as a lease lasts, and may be gone: a reason to ask others, none to give it up.
    """

    silent_s: float = 0.0
    quiet: bool = False
    suspect: bool = False
    dead: bool = False
    well_s: float = 0.0


class MemberStatus(StrEnum):
    """What gossip says of a member: a hint, never the truth."""

    ALIVE = "alive"
    LEAVING = "leaving"
    LEFT = "left"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Member:
    """A host as gossip sees it."""

    host: str
    address: str
    status: MemberStatus
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    cpu_pct: float
    ram_mb: int
    vram_mb: int
