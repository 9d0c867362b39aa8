"""What stands between two pieces of a PDF page's text: nothing, a blank or a line break (pure).

PDFium guesses it, and wrongly where a piece is a single character, as in a column of figures, and where columns stand
close: ``400.01`` and ``3`` become ``400.013``. Here the places of the pieces decide, and PDFium where they leave doubt.
"""

from __future__ import annotations

from typing import NamedTuple

GAP_EM = 0.08  # wider than this the gap beside a figure is one between columns, and not the fit of characters
ASCENT_EM, DESCENT_EM = 0.75, 0.2
ON_ONE_LINE = 0.5  # with so much of the lower one's height beside the other two pieces are on one line
ON_TWO_LINES = 0.2  # with less than this they are not
PARALLEL = 0.98  # cosine of the angle up to which two directions are one
OPENING, CLOSING = "([+-\u2212\u2013$\u20ac\u00a3", ")]%"  # beside the digits of a value
SET_APART_EM = 0.15  # raised or lowered by so much a figure is an exponent or the number of a footnote

Point = tuple[float, float]


class Span(NamedTuple):  # and no dataclass: there are thousands
    """Characters ``first`` to ``last`` of a page, written at once. ``begin`` and ``end``: where these two stand."""

    first: int
    last: int
    begin: Point
    end: Point


class Piece(NamedTuple):
    """A span's places; ``along``: its direction, of length 1; ``em``: its size."""

    begin: Point
    end: Point
    along: Point
    em: float


class Seam(NamedTuple):
    """Where two pieces meet: the characters on both sides, PDFium's guess, and how wide the gap is."""

    last: str
    guess: str
    first: str
    gap_em: float = 0.0

    @property
    def figures(self) -> int:
        """How many of the two characters are digits."""
        return self.last.isdigit() + self.first.isdigit()

    @property
    def doubtful(self) -> bool:
        """Whether the width of the gap decides: where a value may begin or end, but not at its point or stroke."""
        ends, begins = self.last.isalnum() or self.last in CLOSING, self.first.isalnum() or self.first in OPENING
        return "\n" in self.guess or (not self.guess and self.figures > 0 and ends and begins)


def separator(before: Piece, after: Piece, seam: Seam) -> str:
    """What stands between the two."""
    ahead, up = offset(before.end, after.begin, before.along)
    beside = beside_each_other(before, after)
    broken = "\n" in seam.guess
    if beside < ON_TWO_LINES:
        return seam.guess if broken else "\n"
    if broken and (beside < ON_ONE_LINE or ahead <= 0):
        return seam.guess
    if seam.guess and not broken:
        return seam.guess
    raised = seam.figures == 2 and (broken or abs(up) > SET_APART_EM * before.em)
    return " " if raised or (seam.doubtful and seam.gap_em > GAP_EM) else ""


def beside_each_other(before: Piece, after: Piece) -> float:
    """Share of the lower piece's height that stands beside the other one; large initials stand beside two lines."""
    if before.along[0] * after.along[0] + before.along[1] * after.along[1] < PARALLEL:
        return 0.0
    _, up = offset(before.end, after.begin, before.along)
    high = min(ASCENT_EM * before.em, up + ASCENT_EM * after.em)
    low = max(-DESCENT_EM * before.em, up - DESCENT_EM * after.em)
    return (high - low) / ((ASCENT_EM + DESCENT_EM) * min(before.em, after.em))


def offset(end: Point, begin: Point, along: Point) -> Point:
    """How far the one begins ahead of the end of the other, and above it."""
    x, y = begin[0] - end[0], begin[1] - end[1]
    return x * along[0] + y * along[1], y * along[0] - x * along[1]
