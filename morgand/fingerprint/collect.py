"""All facts together: the profile of this host. Blocking; call it in a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from morgand.errors import StorageFull
from morgand.fingerprint import cpu, gpu, memory, network
from morgand.fingerprint.disk import disk
from morgand.fingerprint.engines import engines
from morgand.fingerprint.laptop import laptop
from morgand.fingerprint.override import apply_override
from morgand.state import Duty, Profile


def collect(
    data_dir: Path,
    *,
    duty: Duty = Duty.ALWAYS,
    address: str = "",
    models: Sequence[str] = (),
    override: Mapping[str, Any] | None = None,
) -> Profile:
    """What this host has. ``address`` (given by a person) replaces the detected one, ``override`` any fact.

    Raises StorageFull when the data directory cannot be written, ConfigError for a bad override.
    """
    ram_mb = memory.ram_mb()
    reached = network.network()
    try:
        found_disk = disk(data_dir)
    except OSError as err:
        raise StorageFull(
            f"{data_dir} cannot be written: {err.strerror}.", remedy="Free space, or set host.data_dir."
        ) from err
    profile = Profile(
        ram_mb=ram_mb, cpu_model=cpu.model(), cpu_cores=cpu.cores(), os=cpu.system(), arch=cpu.arch(),
        disk=found_disk, network=replace(reached, address=address) if address else reached,
        gpus=gpu.gpus(ram_mb), engines=engines(), laptop=laptop(), duty=duty, models=tuple(sorted(models)),
    )  # fmt: skip
    return apply_override(profile, override) if override else profile
