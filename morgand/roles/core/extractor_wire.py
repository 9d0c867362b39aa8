"""What the extractor engine and its client say to each other."""

from __future__ import annotations

import msgspec

from morgand.state import Extracted


class ExtractRequest(msgspec.Struct):
    """``path`` is a local file; ``name`` is what people call it."""

    path: str
    name: str


class ExtractReply(msgspec.Struct):
    extracted: Extracted
