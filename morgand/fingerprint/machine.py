"""What ties a host id to this machine: a digest of the identity its operating system gives it."""

from __future__ import annotations

import hashlib
import re
import sys
import uuid
from pathlib import Path

from morgand.fingerprint import probe

UNKNOWN = ""  # nothing here is the same at every start and another one on every other machine: a bare container
MADE_UP = 0x03 << 40  # of a card's address: for a group (Python's own random number), given by software (a container's)


def machine_digest() -> str:
    """The same after every restart, another one on every other machine; else ``UNKNOWN``.

    The identity itself is not disclosed.
    """
    identity = machine_identity()
    return hashlib.sha256(f"morgan:{identity}".encode()).hexdigest() if identity else UNKNOWN


def machine_identity() -> str | None:
    if sys.platform == "darwin":
        match = re.search(
            r'"IOPlatformUUID" = "([^"]+)"', probe.output(["ioreg", "-rd1", "-c", "IOPlatformExpertDevice"]) or ""
        )
        if match:
            return match.group(1)
    elif sys.platform == "win32":
        key = r"HKLM\SOFTWARE\Microsoft\Cryptography"
        match = re.search(
            r"MachineGuid\s+REG_SZ\s+(\S+)", probe.output(["reg", "query", key, "/v", "MachineGuid"]) or ""
        )
        if match:
            return match.group(1)
    for name in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if len(text) >= 32 and set(text) != {"0"}:
            return text
    return card_identity(uuid.getnode())


def card_identity(node: int) -> str | None:
    """A network card's address, unless it was made up: then the next start may find another one."""
    return None if node & MADE_UP or not node else f"{node:012x}"
