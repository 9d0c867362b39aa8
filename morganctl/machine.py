"""A host's machine in words: what a person looks for, from the profile that the daemon sends."""

from __future__ import annotations

from typing import Any

from morgand.api.schema import HostView

MB_PER_GB = 1024
OS_NAMES = {"linux": "Linux", "darwin": "macOS", "windows": "Windows"}


def called(host: HostView) -> str:
    """What people read: the name, and letters of the id where another host has it too."""
    return host.display_name or host.name


def system(host: HostView) -> str:
    """``Linux x86_64``."""
    name = _text(host.profile, "os")
    return " ".join(part for part in (OS_NAMES.get(name, name), _text(host.profile, "arch")) if part)


def cpu(host: HostView) -> str:
    """``AMD Ryzen 7 5800X, 16 cores``."""
    cores = host.profile.get("cpu_cores")
    told = (_text(host.profile, "cpu_model"), f"{cores} cores" if cores else "")
    return ", ".join(part for part in told if part)


def ram(host: HostView) -> str:
    """``12.5 of 64 GB used``."""
    return _used(host.usage.ram_mb, host.profile.get("ram_mb"))


def gpus(host: HostView) -> list[str]:
    """``RTX 3090 24 GB`` for each."""
    return [f"{_text(gpu, 'name')} {_gb(gpu.get('vram_mb'))}" for gpu in _parts(host.profile, "gpus")]


def gpus_whole(host: HostView) -> list[str]:
    """With driver, CUDA and compute capability, as far as they are known."""
    kinds = (("driver", "driver"), ("CUDA", "cuda"), ("compute capability", "compute_capability"))
    return [
        ", ".join([f"{_text(gpu, 'name')}, {_gb(gpu.get('vram_mb'))} VRAM",
                   *(f"{word} {gpu[key]}" for word, key in kinds if gpu.get(key))])
        for gpu in _parts(host.profile, "gpus")
    ]  # fmt: skip


def facts(host: HostView) -> list[tuple[str, object]]:
    """Everything that ``hosts show`` tells, line by line."""
    profile, usage = host.profile, host.usage
    cards = gpus_whole(host) or ["none"]
    kind = "laptop" if profile.get("laptop") else "desktop, server or board"
    network = profile.get("network") or {}
    reach = f"{host.address} ({'wired' if network.get('wired') else 'wireless or local'})" if network else host.address
    vram = _used(usage.vram_mb, sum(gpu.get("vram_mb") or 0 for gpu in _parts(profile, "gpus")))
    return [
        ("name", host.name), ("id", host.id), ("address", reach),
        ("state", "draining" if host.draining else host.state),
        ("duty", f"{host.duty}, witness: it only votes" if host.witness else host.duty), ("labels", host.labels),
        ("roles", host.roles), ("machine", kind), ("system", system(host)), ("CPU", cpu(host)),
        ("CPU in use", f"{usage.cpu_pct:.0f} %"), ("RAM", ram(host)),
        *(("GPU", card) for card in cards),
        *((("VRAM in use", vram),) if usage.vram_mb else ()), ("disk", _disk(profile)),
        ("engines", [" ".join(part for part in (_text(one, "name"), _text(one, "version")) if part)
                     for one in _parts(profile, "engines")]),
        ("models", profile.get("models") or []),
    ]  # fmt: skip


def _disk(profile: dict[str, Any]) -> str:
    disk = profile.get("disk")
    if not isinstance(disk, dict):
        return "-"
    room = f"{_gb(disk.get('free_mb'))} free of {_gb(disk.get('total_mb'))}"
    return f"{room} at {disk.get('path')}, {disk.get('level', 'not judged')}"


def _used(used_mb: int, total_mb: object) -> str:
    if not isinstance(total_mb, int) or total_mb <= 0:
        return f"{_gb(used_mb)} used"
    return f"{_number(used_mb)} of {_gb(total_mb)} used"


def _gb(size_mb: object) -> str:
    return f"{_number(size_mb)} GB" if isinstance(size_mb, int) else "?"


def _number(size_mb: int) -> str:
    """In GB, with a decimal place where there is one."""
    return f"{size_mb / MB_PER_GB:.1f}".removesuffix(".0")


def _text(facts: dict[str, Any], key: str) -> str:
    return str(facts.get(key) or "")


def _parts(profile: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """A list of objects in a profile; of another version there may be none."""
    found = profile.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
