"""PDF pages: every value apart from its neighbours, each row a line, however the page lies."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pypdfium2 as pdfium
import pytest
from reportlab.pdfgen.canvas import Canvas

from morgand.assistant.rag.extract import read
from morgand.assistant.rag.extract.pdf_layout import Piece, Seam, separator
from morgand.base.errors import Unreadable

DATA = Path(__file__).parents[2] / "data"
ROWS = (("Reception", "1104", "5"), ("Boiler", "2237", "-6"), ("N", "0.75", "(8)"))
LINES = ["Reception 1104 5", "Boiler 2237 -6", "N 0.75 (8)"]


def page(
    draw: Callable[[Canvas], None], *, rotate: int = 0, crop: tuple[float, float, float, float] | None = None
) -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    canvas.setFont("Helvetica", 10)
    draw(canvas)
    canvas.showPage()
    canvas.save()
    document = pdfium.PdfDocument(buffer.getvalue())
    only = document[0]
    only.set_rotation(rotate)
    if crop is not None:
        only.set_cropbox(*crop)
    only.close()
    turned = io.BytesIO()
    document.save(turned)
    document.close()
    return turned.getvalue()


def lines(folder: Path, data: bytes) -> list[str]:
    file = folder / "content"
    file.write_bytes(data)
    return [line for block in read(file, "a.pdf").blocks for line in block.text.split("\n")]


def table(canvas: Canvas, rows: Sequence[Sequence[str]] = ROWS, *, gap: float = 60.0) -> None:
    """Right-aligned columns of figures: the first is as wide as its widest value, ``gap`` points lie between both."""
    for number, (name, first, second) in enumerate(rows):
        y = 700.0 - 14 * number
        canvas.drawString(72, y, name)
        canvas.drawRightString(200, y, first)
        canvas.drawString(200 + gap, y, second)


def turned(angle: int) -> Callable[[Canvas], None]:
    def draw(canvas: Canvas) -> None:
        canvas.translate(300, 400)
        canvas.rotate(angle)
        canvas.translate(-160, -690)
        table(canvas)

    return draw


def test_found_tables_keep_their_values_apart() -> None:
    """What went wrong on people's hosts: ``400.01`` and ``3`` were read, and quoted, as ``400.013``."""
    readings = read(DATA / "meter-readings.pdf", "meter-readings.pdf").blocks[0].text
    assert readings.split("\n")[1:] == ["North 200.01 1", "East 400.01 3", "South 600.01 5", "West 800.01 7"]
    extensions = read(DATA / "extensions-landscape.pdf", "extensions-landscape.pdf").blocks[0].text
    assert extensions.split("\n")[1:3] == ["Reception 1104", "Boiler room 2237"]


@pytest.mark.parametrize("gap", [1, 1.5, 2, 2.5, 3, 6, 30, 250])
def test_columns_of_figures_stay_apart_however_near_they_are(tmp_path: Path, gap: float) -> None:
    assert lines(tmp_path, page(lambda canvas: table(canvas, gap=gap))) == LINES


@pytest.mark.parametrize("angle", [0, 3, 45, 90, 180, 270])
@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_rows_are_lines_however_the_page_lies(tmp_path: Path, angle: int, rotate: int) -> None:
    """Written sideways, stored sideways, or both; upside down as well."""
    assert lines(tmp_path, page(turned(angle), rotate=rotate)) == LINES


def test_single_figures_below_one_another_do_not_grow_together(tmp_path: Path) -> None:
    def draw(canvas: Canvas) -> None:
        for number, figure in enumerate("3572"):
            canvas.drawString(72, 700 - 14 * number, figure)

    assert lines(tmp_path, page(draw)) == ["3", "5", "7", "2"]


def test_a_column_that_was_written_first_is_read_first(tmp_path: Path) -> None:
    """Columns of prose stay whole: no line of one goes on in the other."""

    def draw(canvas: Canvas) -> None:
        for x, side in ((72, "left"), (320, "right")):
            for number in range(3):
                canvas.drawString(x, 700 - 14 * number, f"Line {number} on the {side}.")

    wanted = [f"Line {number} on the {side}." for side in ("left", "right") for number in range(3)]
    assert lines(tmp_path, page(draw)) == wanted


def test_a_number_written_in_two_pieces_is_one(tmp_path: Path) -> None:
    """Programs write a number in pieces too; set wide it is still one."""

    def draw(canvas: Canvas) -> None:
        canvas.drawString(72, 700, "1")
        canvas.drawString(72 + 5.56, 700, "880.50 kWh")
        for number, figure in enumerate("40213"):
            canvas.drawString(72 + 7.0 * number, 680, figure)

    assert lines(tmp_path, page(draw)) == ["1880.50 kWh", "40213"]


def test_footnotes_and_exponents_are_no_part_of_the_number(tmp_path: Path) -> None:
    """``400`` with a raised 3 is not 4003; a formula's index stays with its letter."""

    def draw(canvas: Canvas) -> None:
        for text, small, x, y, up in (("400", "3", 72 + 3 * 5.56, 700, 4), ("CO", "2", 72 + 15, 680, -2)):
            canvas.setFont("Helvetica", 10)
            canvas.drawString(72, y, text)
            canvas.setFont("Helvetica", 6)
            canvas.drawString(x, y + up, small)

    assert lines(tmp_path, page(draw)) == ["400 3", "CO2"]


def test_a_divided_word_is_whole_again(tmp_path: Path) -> None:
    def draw(canvas: Canvas) -> None:
        canvas.drawString(72, 700, "The pressure of the heat-")
        canvas.drawString(72, 688, "ing is 1.3 bar.")

    assert lines(tmp_path, page(draw)) == ["The pressure of the heating is 1.3 bar."]


def test_what_was_cut_off_the_page_is_not_read(tmp_path: Path) -> None:
    def draw(canvas: Canvas) -> None:
        canvas.drawString(72, 700, "seen")
        canvas.drawString(400, 700, "cut off")
        canvas.drawString(72, 680, "also seen")

    assert lines(tmp_path, page(draw, crop=(0, 0, 300, 842))) == ["seen", "also seen"]


def by_hand(content: bytes, characters: bytes) -> bytes:
    """A page whose font gives characters meanings of their own."""
    meaning = (
        b"""begincmap 1 begincodespacerange <00> <FF> endcodespacerange
    3 beginbfchar %s endbfchar endcmap"""
        % characters
    )
    parts = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 6 0 R>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(meaning), meaning),
    ]
    body = b"".join(b"%d 0 obj\n%s\nendobj\n" % (number, part) for number, part in enumerate(parts, start=1))
    return b"%PDF-1.4\n" + body + b"trailer<</Size 7/Root 1 0 R>>\n"


def test_characters_that_count_double_or_not_at_all_move_nothing(tmp_path: Path) -> None:
    """A picture sign takes two of PDFium's units, a bullet without a meaning none; what follows them stays whole."""
    content = b"BT /F 10 Tf 72 700 Td (AB 400.01) Tj 60 0 Td (3) Tj -60 -14 Td (CB 7) Tj 60 0 Td (AA9) Tj ET"
    data = by_hand(content, b"<41> <D83DDE00> <42> <0003> <43> <0043>")
    assert lines(tmp_path, data) == ["😀 400.01 3", "C 7 😀😀9"]


def test_a_page_of_characters_without_any_meaning_has_no_text(tmp_path: Path) -> None:
    data = by_hand(b"BT /F 10 Tf 72 700 Td (BBB) Tj ET", b"<41> <0041> <42> <0003> <43> <0043>")
    with pytest.raises(Unreadable):
        lines(tmp_path, data)


def piece(x: float, y: float, *, em: float = 10.0, wide: float = 20.0) -> Piece:
    return Piece((x, y), (x + wide, y), (1.0, 0.0), em)


@pytest.mark.parametrize(
    ("after", "seam", "wanted"),
    [
        (piece(40, 0), Seam("1", " ", "3"), " "),
        (piece(40, 0), Seam("1", "\r\n", "3", 1.0), " "),  # a break in a row
        (piece(-60, 0), Seam("1", "\r\n", "3", -9.0), "\r\n"),  # back to the margin
        (piece(0, -12), Seam("1", "", "3"), "\n"),  # the next row
        (piece(0, -12), Seam("1", " ", "3"), "\n"),
        (piece(26, 0), Seam("1", "", "3", 0.15), " "),
        (piece(26, 0), Seam("1", "", "3", 0.02), ""),
        (piece(26, 0), Seam("b", "", ")", 0.15), ""),  # no value here: PDFium knows better
        (piece(26, 0), Seam("1", "", ".", 0.15), ""),
        (piece(26, 4, em=6), Seam("0", "", "3"), " "),  # raised
        (piece(40, -5.5), Seam("x", " ", "y"), " "),  # neither one line nor two: as PDFium says
    ],
)
def test_places_decide_what_stands_between(after: Piece, seam: Seam, wanted: str) -> None:
    assert separator(piece(0, 0), after, seam) == wanted
