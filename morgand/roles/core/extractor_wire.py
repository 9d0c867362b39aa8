"""What the extractor engine and its client say to each other."""

from __future__ import annotations

import msgspec

from morgand.state.assistant import Extracted


class File(msgspec.Struct):
    """``path`` is a local file; ``name`` is what people call it."""

    path: str
    name: str


class ExtractRequest(msgspec.Struct):
    """Files to read one after the other, all together within the time limit of one."""

    files: tuple[File, ...]


class ExtractionReading(msgspec.Struct):
    """What one file says, or the error (``failure.to_wire``) that says why it cannot be read."""

    extracted: Extracted | None = None
    error: bytes = b""


class ExtractReply(msgspec.Struct):
    readings: tuple[ExtractionReading, ...]
