"""All facts together: the profile of this host. Blocking; call it in a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from morgand.base.disk import Disk, DiskLevel
from morgand.fingerprint import cpu, gpu, memory, network
from morgand.fingerprint.disk import probe
from morgand.fingerprint.engines import EngineSource, engines
from morgand.fingerprint.health import judged
from morgand.fingerprint.laptop import laptop
from morgand.fingerprint.override import apply_override
from morgand.state.hosts import Duty, Profile


def collect(
    data_dir: Path,
    sources: Sequence[EngineSource],
    *,
    duty: Duty = Duty.ALWAYS,
    witness: bool = False,
    address: str = "",
    models: Sequence[str] = (),
    override: Mapping[str, Any] | None = None,
    disk: Disk | None = None,
    before: Profile | None = None,
) -> Profile:
    """What this host has. ``sources``: where to look for engines. ``address`` (given by a person) replaces the
    detected one, ``override`` any fact.

    ``disk``: as it was found already, by somebody who watches it; it is looked at once where nobody does. ``before``:
    what was found the last time, which stays true of what a busy machine does not answer now: roles go by it.
    Raises ConfigError for a bad override.
    """
    ram_mb = memory.ram_mb()
    reached = network.network()
    profile = Profile(
        ram_mb=ram_mb, cpu_model=cpu.model(), cpu_cores=cpu.cores(), os=cpu.system(), arch=cpu.arch(),
        disk=disk or judged(DiskLevel.WELL, [probe(data_dir)]),
        network=replace(reached, address=address) if address else reached,
        gpus=gpu.gpus(ram_mb, before.gpus if before else ()),
        engines=engines(sources, before.engines if before else ()),
        laptop=laptop(), duty=duty, models=tuple(sorted(models)), witness=witness,
    )  # fmt: skip
    return apply_override(profile, override) if override else profile
