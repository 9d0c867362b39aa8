"""GPUs and their memory. A host without one is normal: nothing is logged, nothing fails."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any

from morgand.fingerprint import probe
from morgand.state.hosts import Gpu

AMD_VENDOR = "0x1002"
APPLE_SHARE = 0.66  # of unified memory may be wired for the GPU by default


def gpus(ram_mb: int, before: Sequence[Gpu] = ()) -> tuple[Gpu, ...]:
    """Largest first. ``ram_mb`` is what an Apple GPU shares. What does not answer in time is as it was ``before``."""
    vendors: dict[str, Callable[[], list[Gpu]]] = {"nvidia": nvidia, "amd": amd}
    if sys.platform == "darwin":
        vendors["apple"] = lambda: apple(ram_mb)
    found = []
    for vendor, ask in vendors.items():
        answer = within(ask)
        found += [gpu for gpu in before if gpu.vendor == vendor] if answer is None else answer
    return tuple(sorted(found, key=lambda gpu: (-gpu.vram_mb, gpu.name)))


def within(ask: Callable[[], list[Gpu]], deadline_s: float = probe.DEADLINE_S) -> list[Gpu] | None:
    """The answer of a driver, or None when it takes too long: a broken one can block without end."""
    answer: Future[list[Gpu]] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except (OSError, ValueError) as err:
            answer.set_exception(err)

    Thread(target=work, name="gpu-probe", daemon=True).start()
    try:
        return answer.result(timeout=deadline_s)
    except TimeoutError:
        return None
    except (OSError, ValueError):
        return []


def nvidia() -> list[Gpu]:
    """Through the driver's management library."""
    import pynvml  # loads the driver's library: only where it is asked for

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        cuda = pynvml.nvmlSystemGetCudaDriverVersion()
        found = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            device = pynvml.nvmlDeviceGetHandleByIndex(index)
            major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(device)
            found.append(
                Gpu(
                    name=_text(pynvml.nvmlDeviceGetName(device)).removeprefix("NVIDIA ").removeprefix("GeForce "),
                    vram_mb=int(pynvml.nvmlDeviceGetMemoryInfo(device).total) // 2**20,
                    vendor="nvidia",
                    driver=driver,
                    cuda=f"{cuda // 1000}.{cuda % 1000 // 10}",
                    compute_capability=f"{major}.{minor}",
                )
            )
    except pynvml.NVMLError:
        return []
    else:
        return found
    finally:
        pynvml.nvmlShutdown()


def amd(drm: Path = Path("/sys/class/drm")) -> list[Gpu]:
    """Through the kernel; names through rocm-smi where that is installed."""
    cards = sorted(path for path in drm.glob("card*") if re.fullmatch(r"card\d+", path.name))
    sizes = [size for card in cards if (size := _amd_card(card / "device")) is not None]
    if not sizes:
        return []
    named = parse_rocm(probe.output_json(["rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json"]))
    return named or [Gpu("AMD GPU", size, vendor="amd") for size in sizes]


def parse_rocm(data: Any) -> list[Gpu]:
    """``rocm-smi --showproductname --showmeminfo vram --json``; key names differ between versions."""
    if not isinstance(data, Mapping):
        return []
    found = []
    for card, facts in sorted(data.items()):
        if not (card.startswith("card") and isinstance(facts, Mapping)):
            continue
        size = next((str(value) for key, value in facts.items() if key.lower().startswith("vram total memory")), "")
        name = next(
            (facts[key] for key in ("Card Series", "Card series", "Card Model", "Card model") if key in facts),
            "AMD GPU",
        )
        if size.isdigit():
            found.append(Gpu(str(name), int(size) // 2**20, vendor="amd"))
    return found


def apple(ram_mb: int) -> list[Gpu]:
    """Through the system's own report."""
    return parse_apple(probe.output_json(["system_profiler", "-json", "SPDisplaysDataType"]), ram_mb)


def parse_apple(data: Any, ram_mb: int) -> list[Gpu]:
    """``system_profiler -json SPDisplaysDataType``: Apple's own GPUs share the machine's RAM."""
    displays = data.get("SPDisplaysDataType", []) if isinstance(data, Mapping) else []
    return [
        Gpu(str(one.get("sppci_model", "Apple GPU")), int(ram_mb * APPLE_SHARE), vendor="apple")
        for one in displays
        if isinstance(one, Mapping) and "apple" in str(one.get("spdisplays_vendor", one.get("sppci_model", ""))).lower()
    ]


def _amd_card(device: Path) -> int | None:
    """VRAM of a card in MiB, or None when it is not AMD's; integrated ones under 1 GiB do not count."""
    try:
        if (device / "vendor").read_text(encoding="ascii").strip() != AMD_VENDOR:
            return None
        size_mb = int((device / "mem_info_vram_total").read_text(encoding="ascii")) // 2**20
    except (OSError, ValueError):
        return None
    return size_mb if size_mb >= 1024 else None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
