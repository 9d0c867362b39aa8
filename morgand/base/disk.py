"""The disk that the data directory is on, as a value: part of the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DiskLevel(StrEnum):
    """How far a disk can be relied on."""

    WELL = "well"
    LOW = "low"  # little is left; nothing is wrong yet
    SLOW = "slow"
    FULL = "full"
    READ_ONLY = "read-only"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system that holds the data directory. ``fsync_ms``: how long a small durable write takes."""

    path: str
    total_mb: int
    free_mb: int
    fsync_ms: float
    level: DiskLevel = DiskLevel.WELL

    @property
    def sick(self) -> bool:
        """Whether what has to be written is better written elsewhere."""
        return self.level not in (DiskLevel.WELL, DiskLevel.LOW)
