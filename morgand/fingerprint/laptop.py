"""Whether the machine is one that people close and carry away."""

from __future__ import annotations

from pathlib import Path

import psutil

PORTABLE = {8, 9, 10, 11, 14, 30, 31, 32}  # SMBIOS chassis types: portable, laptop, notebook, tablet ...


def laptop() -> bool:
    battery = getattr(psutil, "sensors_battery", lambda: None)()
    try:
        chassis = Path("/sys/class/dmi/id/chassis_type").read_text(encoding="ascii")
    except OSError:
        chassis = ""
    return is_laptop(chassis, battery=battery is not None)


def is_laptop(chassis: str, *, battery: bool) -> bool:
    """The chassis type decides where it is known to be portable; a battery decides elsewhere."""
    return battery or (chassis.strip().isdigit() and int(chassis) in PORTABLE)
