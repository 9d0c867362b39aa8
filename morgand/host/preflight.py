"""``morgand check``: what this host would run and why, what is missing, and how to get it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from morgand.config import Config
from morgand.host.profile import look
from morgand.host.wanted_models import wanted_models
from morgand.roles.catalog import SPECS, engine_sources
from morgand.roles.models import load_models
from morgand.scheduler.plan import plan as make_plan
from morgand.scheduler.rank import gigabytes
from morgand.state.hosts import Host, Profile
from morgand.state.plans import Plan, Snapshot
from morgand.state.roles import Model


@dataclass(frozen=True, slots=True)
class Report:
    """The same facts for people (``lines``) and for programs (``data``)."""

    lines: tuple[str, ...]
    data: dict[str, Any]


def examine(config: Config) -> Report:
    """What this host would run as the only one of its cluster. Changes nothing.

    Raises ConfigError for a bad override or catalogue.
    """
    models = load_models(config.catalog_file)
    seen = look(config, _existing(config.data_dir), models)
    profile, closed = seen.profile, seen.closed
    host = Host("this", config.host_name, profile.network.address, profile, labels=config.host.labels)
    snapshot = Snapshot(
        revision=0, epoch=0, hosts=(host,), roles=SPECS, models=models, preferences=config.preferences()
    )
    found = report(profile, make_plan(snapshot), wanted_models(snapshot, host.id))
    return replace(found, lines=(*found.lines, *(("PostgreSQL cannot run here", f"  {closed}") if closed else ())))


def _existing(directory: Path) -> Path:
    """The directory, or the nearest one above it that exists: the same disk."""
    return next(path for path in (directory.absolute(), *directory.absolute().parents) if path.is_dir())


def report(profile: Profile, plan: Plan, wanted: tuple[Model, ...] = ()) -> Report:
    """``wanted`` are models this host would run if it had them."""
    installed = {engine.name for engine in profile.engines}
    missing = {
        source.engine: source.how_to_get
        for source in engine_sources()
        if source.engine not in installed and source.how_to_get
    }
    return Report(
        lines=(*_hardware(profile), *_placements(plan), *_missing(missing, wanted)),
        data={
            "profile": msgspec.to_builtins(profile),
            "runs": [msgspec.to_builtins(one) for one in plan.assignments],
            "refused": [msgspec.to_builtins(one) for one in plan.refusals],
            "missing_engines": missing,
            "wanted_models": sorted({one.name for one in wanted}),
        },
    )


def _hardware(profile: Profile) -> list[str]:
    gpus = ", ".join(f"{gpu.name} ({gigabytes(gpu.vram_mb)} VRAM)" for gpu in profile.gpus) or "none found"
    disk, network = profile.disk, profile.network
    room = f"{gigabytes(disk.free_mb)} free of {gigabytes(disk.total_mb)}"
    reach = "wired" if network.wired else "wireless or local"
    engines = ", ".join(f"{engine.name} {engine.version}" for engine in profile.engines)
    return [
        "This host",
        f"  CPU      {profile.cpu_model}, {profile.cpu_cores} cores, {profile.arch}, {profile.os}",
        f"  RAM      {gigabytes(profile.ram_mb)}",
        f"  GPU      {gpus}",
        f"  Disk     {disk.level}, {room}, fsync {disk.fsync_ms} ms",
        f"  Network  {network.address} on {network.interface} ({reach})",
        f"  Engines  {engines}",
    ]


def _placements(plan: Plan) -> list[str]:
    lines = ["Would run"]
    for one in plan.assignments:
        model = f" with {one.model}" if one.model else ""
        lines.append(f"  {one.role} ({one.part}): {one.engine}{model}: {one.why}")
    if plan.refusals:
        lines.append("Would not run")
        lines += [f"  {one.role} ({one.part}): {one.reason}" for one in plan.refusals]
    return lines


def _missing(missing: dict[str, str], wanted: tuple[Model, ...]) -> list[str]:
    lines = ["Not installed", *(f"  {engine}: {how}" for engine, how in sorted(missing.items()))] if missing else []
    if wanted:
        sizes = {one.name: one for one in wanted}
        lines += [
            "Fits, but is not here (fetched in the background when catalog.download is on)",
            *(f"  {name}: {gigabytes(one.size_mb)}, {one.licence}" for name, one in sorted(sizes.items())),
        ]
    return lines
