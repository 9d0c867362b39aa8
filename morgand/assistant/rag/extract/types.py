"""What extraction makes of a file, and the normal form of its text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from morgand.base.errors import TooLarge

MAX_TEXT_BYTES = 20 * 1024 * 1024
MAX_HEADING_CHARS = 200
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff\ufffe\uffff\ud800-\udfff]")
_BREAK = re.compile(r"\r\n?|[\x0c\x85\u2028\u2029]")
_BLANKS = re.compile(r"[^\S\n\t]+")
_GAPS = re.compile(r"[ \t]*\n(?:[ \t]*\n)+")


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of text in one place (``page 3``, ``Heating > Pressure``, ``lines 1-40``).

    ``heading`` is the heading path it stands under, or empty. Headings are not repeated in ``text``.
    """

    text: str
    place: str
    heading: str = ""


@dataclass(frozen=True, slots=True)
class ExtractedContent:
    title: str | None
    mime: str
    blocks: tuple[Block, ...]


def normalised(text: str, *, keep_indent: bool = False) -> str:
    """NFC, newlines as ``\\n``, no control characters, at most one empty line in a row."""
    text = _CONTROL.sub("", _BREAK.sub("\n", unicodedata.normalize("NFC", text)))
    if not keep_indent:
        text = _BLANKS.sub(" ", text)
    return _GAPS.sub("\n\n", text).strip("\n") if keep_indent else _GAPS.sub("\n\n", text).strip()


def reflowed(text: str) -> str:
    """Join lines that were only broken to fit a page or a window; lists, tables and short lines stay as they are."""
    lines = text.split("\n")
    width = max((len(line) for line in lines if len(line) < 200), default=0)
    joined: list[str] = []
    before = ""
    for line in lines:
        stripped = line.strip()
        full = len(before) > 40 and len(before) + len(stripped.split(" ", 1)[0]) >= 0.9 * width
        if joined and stripped and full and not _starts_item(stripped):
            joined[-1] += " " + stripped
        else:
            joined.append(stripped)
        before = stripped
    return "\n".join(joined)


def _starts_item(line: str) -> bool:
    return bool(re.match(r"(?:[-*•·–]|\(?\w{1,3}[.)])\s", line))  # noqa: RUF001 - dashes are list marks


def check_size(size: int, name: str) -> None:
    """``size``: bytes (or characters, a lower bound of them) of extracted text. Raises TooLarge."""
    if size > MAX_TEXT_BYTES:
        limit = MAX_TEXT_BYTES // (1024 * 1024)
        raise TooLarge(f"'{name}' holds more than {limit} MB of text.", remedy="Split it into smaller files.")


class Sections:
    """Collects text under a running heading path and cuts it into one block per section."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._path: list[tuple[int, str]] = []
        self._parts: list[str] = []
        self._blocks: list[Block] = []
        self._pending = False  # a heading that no text has followed yet
        self._size = 0
        self.first_heading: str | None = None

    def heading(self, level: int, title: str) -> None:
        """A heading of ``level`` 1 to 6; it ends the section before."""
        title = " ".join(normalised(title).split())[:MAX_HEADING_CHARS]
        if not title:
            return
        self._close(childless=not self._path or level <= self._path[-1][0])
        self.first_heading = self.first_heading or title
        self._path = [(depth, text) for depth, text in self._path if depth < level] + [(level, title)]
        self._pending = True

    def add(self, text: str) -> None:
        """A paragraph, a table row, a piece of code. Raises TooLarge."""
        if text.strip():
            self._size += len(text)
            check_size(self._size, self._name)
            self._parts.append(text)

    def blocks(self) -> tuple[Block, ...]:
        """Everything collected, in order. A heading without text of its own or below it becomes a block."""
        self._close(childless=True)
        return tuple(self._blocks)

    def _close(self, *, childless: bool) -> None:
        text = normalised("\n".join(self._parts))
        place = " > ".join(title for _, title in self._path)
        if text:
            self._blocks.append(Block(text, place or "start", place))
        elif self._pending and childless:
            above = " > ".join(title for _, title in self._path[:-1])
            self._blocks.append(Block(self._path[-1][1], place, above))
        self._parts, self._pending = [], False


def plain_text(blocks: Sequence[Block]) -> str:
    """The blocks as one text in which each heading stands once, where it begins."""
    lines: list[str] = []
    before: list[str] = []
    for block in blocks:
        path = block.heading.split(" > ") if block.heading else []
        same = 0
        while same < min(len(path), len(before)) and path[same] == before[same]:
            same += 1
        lines += path[same:]
        lines.append(block.text)
        before = path
    return "\n".join(lines)
