"""Whether a host can take a part of a role: an engine, a model that fits, room for both. A no carries its reason."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

from morgand.scheduler.rank import gigabytes, names
from morgand.state.hosts import Host, HostState
from morgand.state.roles import Assignment, EngineOption, GpuUse, Model, Part, RolePreference, RoleSpec

SPARE = 1.10  # a model is chosen only if it fits with 10 % to spare
UPGRADE = 1.25  # a running model is replaced only by one at least 25 % larger
RAM_RESERVE_MB = 512  # for the system and morgand itself
DISK_RESERVE_MB = 256
GPU_HOST_RAM_MB = 512  # what an engine holds in RAM while its model is in VRAM


@dataclass(slots=True)
class Room:
    """What is left on one host while a plan is being made."""

    ram_mb: int
    disk_mb: int
    gpus_mb: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, host: Host) -> Room:
        profile = host.profile
        return cls(
            ram_mb=profile.ram_mb - RAM_RESERVE_MB,
            disk_mb=profile.disk.free_mb - DISK_RESERVE_MB,
            gpus_mb=[gpu.vram_mb for gpu in profile.gpus],
        )

    def take(self, fit: Fit) -> None:
        self.ram_mb -= fit.ram_mb
        self.disk_mb -= fit.disk_mb
        if fit.gpu is not None:
            self.gpus_mb[fit.gpu] -= fit.vram_mb


@dataclass(frozen=True, slots=True)
class Fit:
    """How a host would perform a part."""

    engine: str
    model: Model | None = None
    ram_mb: int = 0
    vram_mb: int = 0
    disk_mb: int = 0
    gpu: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Demand:
    """One part of one role with all that narrows its choice."""

    spec: RoleSpec
    part: Part
    preference: RolePreference
    models: tuple[Model, ...]  # of this role, largest first
    first_engine: str | None = None  # the engine of the role's first part, once that is placed
    elector: str | None = None  # an engine that elects, if the role has begun with one: what runs it is a copy
    only_model: str | None = None  # the model the rest of the role runs, where it must be one
    scarce: frozenset[str] = frozenset()  # engines that too few hosts of the cluster can run


def barred(host: Host, demand: Demand) -> str | None:
    """Why a host is out of the question whatever room it has, or None."""
    if host.state in (HostState.FENCED, HostState.LEFT):
        return f"{host.display_name} is {host.state.value}"
    if host.profile.witness:
        return f"{host.display_name} is a witness: it only votes"
    if host.draining:
        return f"{host.display_name} is being drained"
    word = next((word for word in demand.preference.forbid if names(word, host)), None)
    if word is not None:
        return f"roles.{demand.spec.name}.forbid names {'it' if word == host.name else word}"
    return None


def unknown_model(demand: Demand) -> str | None:
    """Why the configured model cannot be meant, or None."""
    wanted = demand.preference.model
    known = sorted({model.name for model in demand.models})
    if not wanted or not demand.spec.needs_model or wanted in known:
        return None
    close = difflib.get_close_matches(wanted, known, n=1, cutoff=0.4)
    hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known) or 'none'}"
    return f"{demand.spec.name}.model: there is no model '{wanted}' in the catalogue; {hint}"


def fit(host: Host, room: Room, demand: Demand, incumbent: Assignment | None = None) -> Fit | str:
    """How the host would perform the part, or the reason why it cannot.

    ``incumbent`` is what the host runs of this part now: its engine stays while it can.
    """
    allowed = [option for option in demand.spec.engines if _engine_allowed(option, demand)]
    if not allowed:
        return _no_engine_for_part(demand)
    options = [option for option in allowed if host.profile.has_engine(option.name)]
    if not options:
        return f"{' or '.join(dict.fromkeys(option.name for option in allowed))} is not installed"
    if demand.spec.needs_model:
        return _fit_model(host, room, demand, options, incumbent)
    if incumbent is not None:
        options.sort(key=lambda option: option.name != incumbent.engine)
    return _fit_plain(
        room, demand.spec, options[0], keeps=incumbent is not None and incumbent.engine == options[0].name
    )


def _engine_allowed(option: EngineOption, demand: Demand) -> bool:
    if option.name in demand.scarce:
        return False
    if not demand.part.engines:
        return True
    same = demand.first_engine in (None, option.name) or demand.spec.prefers(option.name, demand.first_engine)
    return option.name in demand.part.engines and same


def _no_engine_for_part(demand: Demand) -> str:
    needed = " or ".join(demand.part.engines)
    if demand.scarce:
        return f"{' or '.join(sorted(demand.scarce))} is of use only where more hosts can run it"
    return f"a {demand.part.name} needs {needed}; {demand.spec.name} runs on {demand.first_engine}, which has none"


def _fit_plain(room: Room, spec: RoleSpec, option: EngineOption, *, keeps: bool) -> Fit | str:
    """``keeps``: the host holds the role with this engine, so what it stores is on its disk already."""
    if room.ram_mb < spec.ram_mb:
        return _short("RAM", spec.ram_mb, room.ram_mb)
    if room.disk_mb < spec.disk_mb and not keeps:
        return _short("disk", spec.disk_mb, room.disk_mb)
    gpu = _gpu(room, spec.vram_mb, None) if spec.vram_mb else None
    if spec.vram_mb and gpu is None:
        return _short("VRAM", spec.vram_mb, max(room.gpus_mb, default=0))
    return Fit(option.name, None, spec.ram_mb, spec.vram_mb, spec.disk_mb, gpu)


def _fit_model(
    host: Host, room: Room, demand: Demand, options: list[EngineOption], incumbent: Assignment | None
) -> Fit | str:
    pairs = [(option, model) for option in options for model in demand.models if option.name in model.engines]
    if demand.only_model:
        pairs = [pair for pair in pairs if pair[1].name == demand.only_model]
    if not pairs:
        missing = f"'{demand.only_model}'" if demand.only_model else "model"
        return f"the catalogue has no {missing} for {' or '.join(dict.fromkeys(one.name for one in options))}"
    note = ""
    if wanted_name := demand.preference.model:
        wanted = [pair for pair in pairs if pair[1].name == wanted_name]
        here = [pair for pair in wanted if pair[1].handle in host.profile.models]
        if here or not any(_place(room, option, model, None) for option, model in wanted):
            pairs = here or wanted
        else:
            note = f"until {wanted_name} is on {host.display_name}"
    here = [pair for pair in pairs if pair[1].handle in host.profile.models]
    if not here and not (wanted_name and not note):
        return f"none of its models is on {host.display_name} yet"
    return _largest(demand, here or pairs, room, incumbent, note)


def _largest(
    demand: Demand, pairs: list[tuple[EngineOption, Model]], room: Room, incumbent: Assignment | None, note: str
) -> Fit | str:
    fits: list[Fit] = []
    current: Fit | None = None
    for option, model in pairs:
        runs = incumbent is not None and (incumbent.engine, incumbent.model) == (option.name, model.name)
        found = _place(room, option, model, incumbent if runs else None)
        if found is not None:
            fits.append(Fit(option.name, model, *found, note=note))
            current = current or (fits[-1] if runs else None)
    if not fits:
        return _too_large(pairs, room)
    keeps_order = demand.spec.keep_model  # engines in order of preference; elsewhere the largest model decides
    best = fits[0] if keeps_order else max(fits, key=_size)
    if current is not None and (keeps_order or _size(best) < _size(current) * UPGRADE) and not demand.preference.model:
        return current
    return best


def _size(found: Fit) -> int:
    return found.model.size_mb if found.model else 0


def _place(
    room: Room, option: EngineOption, model: Model, incumbent: Assignment | None
) -> tuple[int, int, int, int | None] | None:
    """RAM, VRAM, disk and GPU the model would take, or None. What runs already needs no spare room."""
    rest_mb = min(GPU_HOST_RAM_MB, model.ram_mb or GPU_HOST_RAM_MB)
    if option.gpu is not GpuUse.NEVER and model.vram_mb and room.ram_mb >= rest_mb:
        gpu = _gpu(room, model.vram_mb, incumbent.gpu if incumbent else None)
        if gpu is not None:
            return rest_mb, model.vram_mb, 0, gpu
    spare = 1.0 if incumbent and incumbent.gpu is None else SPARE
    if option.gpu is not GpuUse.MUST and model.ram_mb and room.ram_mb >= model.ram_mb * spare:
        return model.ram_mb, 0, 0, None
    return None


def _gpu(room: Room, need_mb: int, current: int | None) -> int | None:
    """The GPU with the least room that suffices (or the one it is on); a model is never split."""
    if current is not None and current < len(room.gpus_mb) and room.gpus_mb[current] >= need_mb:
        return current
    enough = [(left, index) for index, left in enumerate(room.gpus_mb) if left >= need_mb * SPARE]
    return min(enough)[1] if enough else None


def _too_large(pairs: list[tuple[EngineOption, Model]], room: Room) -> str:
    _, model = min(pairs, key=lambda pair: pair[1].size_mb)
    vram = max(room.gpus_mb, default=0)
    if not model.ram_mb:
        return f"{model.name}: {_short('VRAM', int(model.vram_mb * SPARE), vram)}"
    return f"{model.name}: {_short('RAM', int(model.ram_mb * SPARE), room.ram_mb)}"


def _short(what: str, need_mb: int, left_mb: int) -> str:
    return f"needs {gigabytes(need_mb)} {what} and {gigabytes(max(0, left_mb))} is left"
