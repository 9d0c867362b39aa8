"""The processor: its model, cores this process may use, architecture and operating system, normalised."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from morgand.fingerprint import probe

ARCHES = {"amd64": "x86_64", "x64": "x86_64", "aarch64": "arm64", "armv8l": "arm64"}


def model() -> str:
    """The processor's name, or its architecture where the system does not tell."""
    if sys.platform == "darwin":
        return (probe.output(["sysctl", "-n", "machdep.cpu.brand_string"]) or arch()).strip()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return parse_cpuinfo(text) or platform.processor() or arch()


def parse_cpuinfo(text: str) -> str | None:
    """The first name in ``/proc/cpuinfo``; a Raspberry Pi only has ``Model``."""
    lines = [line.partition(":") for line in text.splitlines()]
    for wanted in ("model name", "Model", "Hardware"):
        for key, _, value in lines:
            if key.strip() == wanted and value.strip():
                return value.strip()
    return None


def cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def system() -> str:
    """``linux``, ``darwin`` or ``windows``."""
    return platform.system().lower() or "unknown"


def arch() -> str:
    """``x86_64``, ``arm64``, or what the system says."""
    return normalise_arch(platform.machine())


def normalise_arch(machine: str) -> str:
    return ARCHES.get(machine.lower(), machine.lower() or "unknown")
