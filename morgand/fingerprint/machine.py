"""What ties a host id to this machine: a digest of the identity its operating system gives it."""

from __future__ import annotations

import hashlib
import re
import sys
import uuid
from pathlib import Path

from morgand.fingerprint import probe


def machine_digest() -> str:
    """The same after every restart, another one on every other machine. The identity itself is not disclosed."""
    return hashlib.sha256(f"morgan:{machine_identity()}".encode()).hexdigest()


def machine_identity() -> str:
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
    return f"{uuid.getnode():012x}"  # the hardware address of a network card
