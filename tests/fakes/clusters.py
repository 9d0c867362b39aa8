"""Hosts and snapshots as values, for tests of the scheduler and the planner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from morgand.base.disk import Disk, DiskLevel
from morgand.roles.catalog import SPECS
from morgand.roles.models import load_models
from morgand.state.hosts import Duty, Engine, Gpu, Host, Network, Profile
from morgand.state.plans import Plan, Snapshot
from morgand.state.roles import Model

EMBEDDED = ("assistant", "folder", "llama.cpp", "memory", "onnx", "qdrant-edge", "sqlite")
MODELS = load_models()
CARRIED = ("bge-small-en-v1.5", "ms-marco-minilm-l-12-v2", "smollm2-135m-instruct")


def profile(
    ram_gb: float = 16,
    vram_gb: Sequence[float] = (),
    *,
    engines: Sequence[str] = EMBEDDED,
    models: Sequence[str] = CARRIED,
    disk_gb: float = 100,
    duty: Duty = Duty.ALWAYS,
) -> Profile:
    return Profile(
        ram_mb=int(ram_gb * 1024),
        cpu_model="test",
        cpu_cores=4,
        os="linux",
        arch="x86_64",
        disk=Disk("/data", int(disk_gb * 1024), int(disk_gb * 1024), 1.0),
        network=Network("eth0", "192.0.2.1", wired=True),
        gpus=tuple(Gpu("card", int(size * 1024)) for size in vram_gb),
        engines=tuple(Engine(name, "1", "") for name in engines),
        duty=duty,
        models=tuple(models),
    )


def host(name: str, ram_gb: float = 16, vram_gb: Sequence[float] = (), **more: Any) -> Host:
    fields = {key: more.pop(key) for key in ("state", "labels", "draining") if key in more}
    return Host(name, name, "192.0.2.1", profile(ram_gb, vram_gb, **more), **fields)


def sick(one: Host, level: DiskLevel = DiskLevel.FULL) -> Host:
    """The same host with a disk of this level."""
    return replace(one, profile=replace(one.profile, disk=replace(one.profile.disk, level=level)))


def snapshot(*hosts: Host, models: Sequence[Model] = MODELS, **more: Any) -> Snapshot:
    return Snapshot(revision=7, epoch=3, hosts=hosts, roles=SPECS, models=tuple(models), **more)


def applied(before: Snapshot, plan: Plan) -> Snapshot:
    """The snapshot after the plan was committed under a later revision and epoch."""
    return replace(before, assignments=plan.assignments, revision=before.revision + 1, epoch=before.epoch + 1)


def where(plan: Plan) -> dict[str, str]:
    """``llm/main`` -> host, for parts that exist once."""
    return {f"{one.role}/{one.part}": one.host for one in plan.assignments}
