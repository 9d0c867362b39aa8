"""The text of one PDF page, with its lines and columns apart. PDFium's own characters, in PDFium's order."""

from __future__ import annotations

import ctypes
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pypdfium2 as pdfium
from pypdfium2 import raw as api

from morgand.assistant.rag.extract.pdf_layout import (
    ON_TWO_LINES,
    Piece,
    Point,
    Seam,
    Span,
    beside_each_other,
    offset,
    separator,
)

SAMPLES = 8  # characters asked for the direction of a page's text
TRACKED_EM = 0.5  # the letters of a word are set apart by so much at most
PLAIN_PT = 1.0  # to the left, or above: differences below this are none
IDEOGRAPHS = "\u2e80"  # from here on scripts that are also written from top to bottom
HYPHENS = "\x02\ufffe\u00ad"  # PDFium's mark for a word divided at the end of a line: no break follows it

Box = tuple[float, float, float, float]  # left, bottom, right, top

# PDFium's function answering with a number: made into Python's pointers, to compare them, it takes three times as long.
_owner = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int)(
    ctypes.cast(api.FPDFText_GetTextObject, ctypes.c_void_p).value or 0
)


def page_text(document: pdfium.PdfDocument, number: int) -> str:
    """What can be seen of a page's text, in the order it has once most of it is upright. Raises PdfiumError."""
    with closing(document[number]) as page, closing(page.get_textpage()) as layer:
        upright = _upright(layer, page.get_rotation())
        if upright == page.get_rotation():
            return _Text(layer, page.get_bbox(), upright).joined()
        page.set_rotation(upright)
    with closing(document[number]) as page, closing(page.get_textpage()) as layer:  # ordered when it is loaded
        return _Text(layer, page.get_bbox(), upright).joined()


def _upright(layer: pdfium.PdfTextPage, rotation: int) -> int:
    """The rotation (0, 90, 180, 270) in which most of a page's text is upright; that of now where there is none."""
    places = _Places(layer)
    sample = range(0, places.count, max(1, places.count // SAMPLES))
    written = (places.writing(index)[0] for index in sample if places.owner(index))
    turns = Counter(round(math.degrees(math.atan2(up, ahead)) / 90) % 4 * 90 for ahead, up in written)
    return turns.most_common(1)[0][0] if turns else rotation


class _Places:
    """Where each character of a page stands. Asked for by the thousand: so with what PDFium answers into made once."""

    def __init__(self, layer: pdfium.PdfTextPage) -> None:
        self.count = layer.count_chars()
        self._page = layer.raw
        self._address = ctypes.cast(layer.raw, ctypes.c_void_p)
        self._matrix, self._rectangle = api.FS_MATRIX(), api.FS_RECTF()
        self._numbers = tuple(ctypes.c_double() for _ in range(4))

    def owner(self, index: int) -> int:
        """A number for what the character was written with; 0 for those that PDFium added between two."""
        owner: int = _owner(self._address, index)
        return owner

    def origin(self, index: int) -> Point:
        x, y, *_ = self._numbers
        api.FPDFText_GetCharOrigin(self._page, index, x, y)
        return x.value, y.value

    def writing(self, index: int) -> tuple[Point, float]:
        """In which direction, and how large."""
        matrix = self._matrix
        api.FPDFText_GetMatrix(self._page, index, matrix)
        stretch = math.hypot(matrix.a, matrix.b) or 1.0
        em = api.FPDFText_GetFontSize(self._page, index) * math.hypot(matrix.c, matrix.d)
        return (matrix.a / stretch, matrix.b / stretch), abs(em) or 1.0

    def extent(self, index: int, along: Point) -> Point:
        """From where to where its place in the line reaches."""
        box = self._rectangle
        api.FPDFText_GetLooseCharBox(self._page, index, box)
        corners = [x * along[0] + y * along[1] for x in (box.left, box.right) for y in (box.bottom, box.top)]
        return min(corners), max(corners)

    def touches(self, index: int, box: Box) -> bool:
        """Whether some of the character is in the box."""
        left, right, bottom, top = self._numbers
        api.FPDFText_GetCharBox(self._page, index, left, right, bottom, top)
        return left.value < box[2] and box[0] < right.value and bottom.value < box[3] and box[1] < top.value

    def piece(self, span: Span) -> Piece:
        return Piece(span.begin, span.end, *self.writing(span.first))

    def last(self, first: int, owner: int, end: int) -> int:
        """The last before ``end`` of the characters that were written with the first. Most pieces are a line."""
        if self.owner(end - 1) == owner:
            return end - 1
        inside, beyond = first, end - 1
        while beyond - inside > 1:
            middle = (inside + beyond) // 2
            if self.owner(middle) == owner:
                inside = middle
            else:
                beyond = middle
        return inside


class _Text:
    """``box``: what is seen of the page; ``rotation``: with which its text is upright."""

    def __init__(self, layer: pdfium.PdfTextPage, box: Box, rotation: int) -> None:
        self._layer, self._box, self._places = layer, box, _Places(layer)
        self._along = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
        text = layer.get_text_range(errors="surrogatepass")
        self._straight = len(text) == self._places.count  # else some characters mean nothing, or two units
        self._units = text if self._straight or max(text, default="") <= "\uffff" else "".join(_units(text))

    def joined(self) -> str:
        parts: list[str] = []
        before: Span | None = None
        read = 0
        for span in self._spans():
            begin, end = self._position(span.first), self._position(span.last + 1)
            guess, read = self._units[read:begin], end
            whole = _holds(self._box, span.begin) and _holds(self._box, span.end)
            text = self._units[begin:end] if whole else self._visible(span)
            if not text:
                continue
            if before is not None:
                plain = _is_plain(guess, *offset(before.end, span.begin, self._along))
                seam = Seam(parts[-1][-1], guess, text[0])
                parts.append(guess if plain else self._separator(before, span, seam))
            parts.append(text)
            before = span
        return "".join(parts).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")

    def _spans(self) -> Iterator[Span]:
        """The pieces in which the page was written."""
        places, index = self._places, 0
        while index < places.count:
            last = index
            if owner := places.owner(index):
                begin = self._position(index)
                line = self._units.find("\r", begin) - begin
                last = places.last(index, owner, index + line if line > 0 else places.count)
                yield Span(index, last, places.origin(index), places.origin(last))
            index = last + 1

    def _visible(self, span: Span) -> str:
        seen = (index for index in range(span.first, span.last + 1) if self._places.touches(index, self._box))
        return "".join(self._units[self._position(index) : self._position(index + 1)] for index in seen)

    def _position(self, index: int) -> int:
        """Of a character in the text, or of the next one: those that mean nothing are not in it."""
        if self._straight:
            return index
        while index < self._places.count:
            position: int = api.FPDFText_GetTextIndexFromCharIndex(self._layer.raw, index)
            if position >= 0:
                return position
            index += 1
        return len(self._units)

    def _separator(self, before: Span, after: Span, seam: Seam) -> str:
        if seam.last in HYPHENS or min(seam.last, seam.first) >= IDEOGRAPHS:
            return seam.guess
        first, second = self._places.piece(before), self._places.piece(after)
        if seam.doubtful and beside_each_other(first, second) >= ON_TWO_LINES:
            seam = seam._replace(gap_em=self._gap_em(before.last, after.first, first))
        return separator(first, second, seam)

    def _gap_em(self, last: int, first: int, piece: Piece) -> float:
        """Between two pieces, beyond what the characters of one of them keep: they may be set wide."""
        gap = self._gap(last, first, piece)
        kept = self._gap(last - 1, last, piece)
        if not 0 < kept < TRACKED_EM:
            kept = self._gap(first, first + 1, piece)
        return gap - kept if 0 < kept < TRACKED_EM else gap

    def _gap(self, index: int, following: int, piece: Piece) -> float:
        """In ems of ``piece`` and in its direction; 0 where one of the two is none that was written."""
        places = self._places
        if index < 0 or following >= places.count or not (places.owner(index) and places.owner(following)):
            return 0.0
        return (places.extent(following, piece.along)[0] - places.extent(index, piece.along)[1]) / piece.em


def _is_plain(guess: str, ahead: float, up: float) -> bool:
    """Whether a guess is as it nearly always is, and right: a break back to the margin, a blank on the same line."""
    return ahead < -PLAIN_PT if "\n" in guess else guess == " " and abs(up) < PLAIN_PT


def _holds(box: Box, point: Point) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def _units(text: str) -> Iterator[str]:
    """The 16-bit units in which PDFium counts."""
    data = text.encode("utf-16-le", "surrogatepass")
    return (chr(low | high << 8) for low, high in zip(data[::2], data[1::2], strict=True))
