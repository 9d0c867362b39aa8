"""RAM this host may use: the machine's, or a control group's limit where that is lower."""

from __future__ import annotations

from pathlib import Path

import psutil

LIMIT_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def ram_mb() -> int:
    return limited(psutil.virtual_memory().total, [_read(Path(name)) for name in LIMIT_FILES]) // 2**20


def limited(total_bytes: int, limits: list[str | None]) -> int:
    """The lowest of the machine's RAM and the limits (``max`` and unreadable ones do not count)."""
    numbers = [int(text) for text in limits if text is not None and text.isdigit() and int(text) > 0]
    return min([total_bytes, *numbers])


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
