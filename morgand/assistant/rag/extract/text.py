"""Plain text and source code: find the encoding, cut into stretches of lines."""

from __future__ import annotations

import codecs
import re
from pathlib import PurePath

from charset_normalizer import from_bytes

from morgand.assistant.rag.extract.types import Block, ExtractedContent, check_size, normalised, reflowed

SAMPLE_BYTES = 64 * 1024
WIDE_ENOUGH = 24  # bytes over 127 from which a guess by statistics is better than the commonest encoding
MIN_LINES = 20  # a stretch may end at an empty line from here on
MAX_LINES = 40
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_CONTROL = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
_PROSE = frozenset({"", ".txt", ".text"})


def read(data: bytes, name: str) -> ExtractedContent:
    """Stretches of 20 to 40 lines, ``lines 1-40``. Raises TooLarge."""
    text = decoded(data)
    check_size(len(text), name)
    suffix = PurePath(name).suffix.lower()
    return ExtractedContent(None, "text/plain", tuple(_blocks(text, prose=suffix in _PROSE)))


def decoded(data: bytes) -> str:
    """Text of unknown encoding. A few bad bytes in UTF-8 are replaced; never raises."""
    encoding = _marked(data) or _utf16(data)
    if encoding:
        return data.decode(encoding, errors="replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    replaced = data.decode("utf-8", errors="replace")
    valid_wide = sum(1 for char in replaced[:SAMPLE_BYTES] if char > "\x7f" and char != "\ufffd")
    if valid_wide > replaced[:SAMPLE_BYTES].count("\ufffd"):
        return replaced
    return data.decode(_guessed(data[:SAMPLE_BYTES]), errors="replace")


def is_binary(data: bytes) -> bool:
    """Whether the beginning holds more control characters than any text would."""
    if _marked(data) or _utf16(data):
        return False
    sample = data[:SAMPLE_BYTES]
    return b"\x00" in sample or len(_CONTROL.findall(sample)) > len(sample) // 50


def _guessed(sample: bytes) -> str:
    """A handful of accents says too little for statistics: then the commonest encoding is the best guess."""
    wide = sum(byte > 0x7F for byte in sample)
    if wide < WIDE_ENOUGH and wide < len(sample) // 5:
        return "cp1252"
    best = from_bytes(sample).best()
    return best.encoding if best else "cp1252"


def _marked(data: bytes) -> str | None:
    return next((encoding for mark, encoding in _BOMS if data.startswith(mark)), None)


def _utf16(data: bytes) -> str | None:
    """UTF-16 without a mark: nearly every second byte is zero, always on the same side."""
    sample = data[:4096]
    half = len(sample) // 2
    if half < 4:
        return None
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if odd > 0.7 * half and even < 0.05 * half:
        return "utf-16-le"
    if even > 0.7 * half and odd < 0.05 * half:
        return "utf-16-be"
    return None


def _blocks(text: str, *, prose: bool) -> list[Block]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    blocks: list[Block] = []
    first = 0
    for number, line in enumerate(lines):
        size = number - first + 1
        last = number == len(lines) - 1
        if last or size >= MAX_LINES or (size >= MIN_LINES and not line.strip()):
            body = normalised("\n".join(lines[first : number + 1]), keep_indent=not prose)
            if body.strip():
                blocks.append(Block(reflowed(body) if prose else body, f"lines {first + 1}-{number + 1}"))
            first = number + 1
    return blocks
