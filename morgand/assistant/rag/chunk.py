"""Cut a document into nested chunks of three sizes (pure).

Text is split into sentences, those into units that are counted in one call, and units are packed: into fine chunks
(a sentence, or a few short ones), those into medium ones within a place, those into coarse ones. Tokens of a chunk are
the sum over its units, which for word-piece tokenisers is exact. Every fine
chunk lies in one medium chunk, every medium one in one coarse one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from morgand.state.assistant import Chunk, Level

COARSE_TOKENS = 400
MEDIUM_TOKENS = 160
FINE_TOKENS = 48
HEADING_TOKENS = 32  # a longer heading path is left out of the text
SHORT_TOKENS = 10  # a sentence this short may share a fine chunk
TINY_TOKENS = 60  # a section this small may share a coarse chunk with its neighbour
UNIT_CHARS = 160  # longer sentences are cut before they are counted
_END = re.compile(r"\n+|(?<=[.!?…])[\"'”’)\]]*[ \t]+(?=[^a-z\s])|(?<=[。！？])")  # noqa: RUF001 - the full-width marks
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Za-z]|\d{1,3}|Dr|Mr|Mrs|Ms|Prof|St|No|Nr|Fig|Eq|vs|approx|ca|e\.g|i\.e)\.$"
)

CountTokens = Callable[[list[str]], list[int]]


class BlockLike(Protocol):
    """What extraction delivers: text, its place, and the heading path above it (may be empty)."""

    @property
    def text(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def heading(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Unit:
    """A piece that is not cut further. ``gap`` is what stood before it: nothing, a blank or a newline."""

    text: str
    gap: str
    starts: bool  # begins a sentence
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Fine:
    text: str
    gap: str
    tokens: int


@dataclass(frozen=True, slots=True)
class _Medium:
    fines: tuple[_Fine, ...]
    section: int
    place: str
    heading: str  # empty when there is none, or none that fits
    heading_tokens: int

    @property
    def body_tokens(self) -> int:
        return sum(fine.tokens for fine in self.fines)

    @property
    def tokens(self) -> int:
        return self.heading_tokens + self.body_tokens


def chunk(blocks: Sequence[BlockLike], count_tokens: CountTokens) -> tuple[Chunk, ...]:
    """Chunks in reading order: each coarse one, then its medium ones, each with its fine ones.

    ``count_tokens`` is called once with all pieces of the document.
    """
    pieces = [list(_units(block.text)) for block in blocks]
    texts = [unit.text for units in pieces for unit in units]
    counts = iter(count_tokens(texts + [block.heading for block in blocks]))
    counted = [[_Unit(unit.text, unit.gap, unit.starts, next(counts)) for unit in units] for units in pieces]
    mediums: list[_Medium] = []
    for section, (block, units, tokens) in enumerate(zip(blocks, counted, counts, strict=True)):
        heading, heading_tokens = (block.heading, tokens) if 0 < tokens <= HEADING_TOKENS else ("", 0)
        mediums += [
            _Medium(fines, section, block.place, heading, heading_tokens)
            for fines in _pack_medium(_pack_fine(units), MEDIUM_TOKENS - heading_tokens)
        ]
    return tuple(_numbered(_pack_coarse(mediums)))


# --- units ---------------------------------------------------------------------------------------


def _units(text: str) -> Iterator[_Unit]:
    for gap, sentence in _sentences(text):
        before = gap
        for number, (inner_gap, piece) in enumerate(_cut(sentence)):
            yield _Unit(piece, before if number == 0 else inner_gap, starts=number == 0)


def _sentences(text: str) -> Iterator[tuple[str, str]]:
    """Sentences with what stood before each."""
    first, gap = 0, ""
    for match in _END.finditer(text):
        line_end = "\n" in match[0]
        # the start is bounded: text without a boundary must not be copied again at every full stop
        if not line_end and _ABBREVIATION.search(text[max(first, match.start() - 12) : match.start()]):
            continue
        end = match.start() + len(match[0].rstrip())
        if sentence := text[first:end].strip():
            yield gap, sentence
            gap = "\n" if line_end else ("" if match.start() == match.end() else " ")
        elif line_end:
            gap = "\n" if first else ""
        first = match.end()
    if sentence := text[first:].strip():
        yield gap, sentence


def _cut(sentence: str, limit: int = UNIT_CHARS) -> Iterator[tuple[str, str]]:
    """Pieces of at most ``limit`` characters, cut between words where there are any, else anywhere."""
    first, gap = 0, ""
    while len(sentence) - first > limit:
        blank = max(
            sentence.rfind(" ", first + 1, first + limit + 1), sentence.rfind("\t", first + 1, first + limit + 1)
        )
        end = blank if blank > first else first + limit
        if piece := sentence[first:end].strip():
            yield gap, piece
            gap = " " if blank > first else ""
        first = end
    if piece := sentence[first:].strip():
        yield (" " if sentence[first].isspace() else gap), piece


def _dense(unit: _Unit) -> Iterator[_Unit]:
    """A unit of more tokens than a fine chunk holds (symbols, CJK): pieces with no more characters than that."""
    pieces = list(_cut(unit.text, FINE_TOKENS))
    for number, (gap, piece) in enumerate(pieces):
        tokens = min(len(piece), FINE_TOKENS)
        yield _Unit(piece, gap if number else unit.gap, unit.starts and not number, tokens)


# --- packing -------------------------------------------------------------------------------------


def _pack_fine(units: Sequence[_Unit]) -> list[_Fine]:
    fines: list[_Fine] = []
    parts: list[str] = []
    gap, total = "", 0
    for whole in units:
        for unit in _dense(whole) if whole.tokens > FINE_TOKENS else (whole,):
            joins = not unit.starts or total <= SHORT_TOKENS or unit.tokens <= SHORT_TOKENS // 2
            if parts and (not joins or total + unit.tokens > FINE_TOKENS):
                fines.append(_Fine("".join(parts), gap, total))
                parts = []
            if parts:
                parts += [unit.gap, unit.text]
                total += unit.tokens
            else:
                parts, gap, total = [unit.text], unit.gap, unit.tokens
    if parts:
        fines.append(_Fine("".join(parts), gap, total))
    return fines


def _pack_medium(fines: Sequence[_Fine], limit: int) -> Iterator[tuple[_Fine, ...]]:
    """Greedy, but the sizes are evened out: no crumb at the end of a section."""
    left = sum(fine.tokens for fine in fines)
    part: list[_Fine] = []
    total = 0
    for fine in fines:
        groups = -(-(left + total) // limit)
        enough = groups > 1 and total >= (left + total) / groups
        if part and (total + fine.tokens > limit or enough):
            yield tuple(part)
            part, total = [], 0
        part.append(fine)
        total += fine.tokens
        left -= fine.tokens
    if part:
        yield tuple(part)


def _pack_coarse(mediums: Sequence[_Medium]) -> Iterator[list[_Medium]]:
    """A coarse chunk stays within a section, unless it or the next section is tiny."""
    sizes: dict[int, int] = {}
    for medium in mediums:
        sizes[medium.section] = sizes.get(medium.section, 0) + medium.body_tokens
    part: list[_Medium] = []
    total = 0
    for medium in mediums:
        added = _added_tokens(part, medium)
        same = bool(part) and part[-1].section == medium.section
        allowed = same or total <= TINY_TOKENS or sizes[medium.section] <= TINY_TOKENS
        if part and (total + added > COARSE_TOKENS or not allowed):
            yield part
            part, total = [], 0
            added = medium.tokens
        part.append(medium)
        total += added
    if part:
        yield part


def _added_tokens(part: Sequence[_Medium], medium: _Medium) -> int:
    repeated = bool(part) and part[-1].heading == medium.heading
    return medium.body_tokens if repeated else medium.tokens


# --- chunks --------------------------------------------------------------------------------------


def _numbered(coarse: Iterator[list[_Medium]]) -> Iterator[Chunk]:
    medium_index = fine_index = 0
    for coarse_index, part in enumerate(coarse):
        text, tokens = _coarse_text(part)
        yield Chunk(Level.COARSE, coarse_index, None, text, tokens, part[0].place)
        for medium in part:
            body = _joined(medium.fines)
            text = f"{medium.heading}\n{body}" if medium.heading else body
            yield Chunk(Level.MEDIUM, medium_index, coarse_index, text, medium.tokens, medium.place)
            for fine in medium.fines:
                yield Chunk(Level.FINE, fine_index, medium_index, fine.text, fine.tokens, medium.place)
                fine_index += 1
            medium_index += 1


def _coarse_text(part: Sequence[_Medium]) -> tuple[str, int]:
    lines: list[str] = []
    tokens = 0
    for number, medium in enumerate(part):
        before = part[number - 1] if number else None
        if medium.heading and (before is None or before.heading != medium.heading):
            lines.append(medium.heading)
        lines.append(_joined(medium.fines))
        tokens += _added_tokens(part[:number], medium)
    return "\n".join(lines), tokens


def _joined(fines: Sequence[_Fine]) -> str:
    return "".join(fine.gap + fine.text if number else fine.text for number, fine in enumerate(fines))
