"""The vocabulary: frozen values that every other module speaks in.

Units stand last in names (``_mb`` MiB, ``_s`` seconds, ``_ms`` milliseconds). Times are aware UTC
datetimes. Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from morgand.disk import Disk

# --- hosts -------------------------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True)
class Sight:
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


# --- roles and plans ---------------------------------------------------------------------------


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
class Refusal:
    """Why a host was passed over for a role, or why a role could not be placed (``host`` is None)."""

    role: str
    part: str
    host: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class RolePreference:
    """What the person asked for: ``[roles.llm] prefer = [..]``."""

    prefer: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the scheduler sees: one consistent reading of the world."""

    revision: int
    epoch: int
    hosts: tuple[Host, ...]
    roles: tuple[RoleSpec, ...] = ()  # in order of importance
    assignments: tuple[Assignment, ...] = ()
    models: tuple[Model, ...] = ()
    preferences: Mapping[str, RolePreference] = field(default_factory=dict)
    needed: Mapping[str, frozenset[str]] = field(default_factory=dict)  # role -> hosts its engine counts on
    unled: frozenset[str] = frozenset()  # roles whose engine is choosing its first part: there is nothing to copy


@dataclass(frozen=True, slots=True)
class Plan:
    """The assignments that should hold, and the difference to those that do."""

    id: str
    revision: int
    assignments: tuple[Assignment, ...]
    added: tuple[Assignment, ...] = ()
    removed: tuple[Assignment, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.added or self.removed)


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


# --- the assistant -----------------------------------------------------------------------------


class Speaker(StrEnum):
    """Who said a message."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Message:
    id: str
    conversation: str
    speaker: Speaker
    text: str
    tokens: int
    created: datetime
    citations: tuple[Citation, ...] = ()
    notices: tuple[str, ...] = ()  # degradations told to the person


@dataclass(frozen=True, slots=True)
class Conversation:
    id: str
    title: str
    created: datetime
    updated: datetime
    messages: int
    user: str | None = None
    summary: str | None = None
    summary_through: str | None = None  # id of the last message the summary covers


@dataclass(frozen=True, slots=True)
class Turn:
    """A message and its answer. ``answer`` is None until it is stored; a note never gets one."""

    id: str
    conversation: str
    message: Message
    answer: Message | None = None


class DocumentState(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Document:
    id: str
    name: str
    source: str  # where it came from; the same source again replaces
    mime: str
    size_bytes: int
    sha256: str
    object_key: str
    state: DocumentState
    created: datetime
    updated: datetime
    chunks: int = 0
    embeddings: int = 0
    error: str | None = None
    title: str | None = None


class Level(StrEnum):
    """Chunk sizes. Each fine chunk lies in one medium chunk, each medium one in one coarse one."""

    COARSE = "coarse"
    MEDIUM = "medium"
    FINE = "fine"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document's text. ``index`` counts within the level; ``parent`` is the index of the
    enclosing chunk one level up (None for coarse). ``place`` says where, for people: ``page 3``,
    ``Heating > Pressure``.
    """

    level: Level
    index: int
    parent: int | None
    text: str
    tokens: int
    place: str


@dataclass(frozen=True, slots=True)
class Extracted:
    """What extraction made of one file."""

    title: str | None
    mime: str
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as stored. ``embedding`` is little-endian float32, or None if no embedder was there."""

    id: str
    document: str
    chunk: Chunk
    parent_id: str | None
    embedding: bytes | None


@dataclass(frozen=True, slots=True)
class Passage:
    """A ranked piece of a document: a medium chunk, its document and place, and its best fine chunk as ``quote``."""

    chunk: str
    document: str
    title: str
    place: str
    text: str
    score: float
    quote: str | None = None


@dataclass(frozen=True, slots=True)
class Citation:
    """A checked reference from an answer to a passage it was given. ``number`` is the [n] in the answer."""

    number: int
    document: str
    title: str
    place: str
    quote: str
    chunk: str
