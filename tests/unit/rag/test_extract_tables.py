"""Tables of documents: every value under its header, whatever cells are empty or span several."""

from __future__ import annotations

import io
from pathlib import Path

import docx
import pytest

from morgand.assistant.rag.extract import read
from morgand.assistant.rag.extract.table import MAX_SPAN, Cell, Grid, span

DATA = Path(__file__).parents[2] / "data"


def html(folder: Path, markup: str) -> list[str]:
    file = folder / "content"
    file.write_text(markup)
    return read(file, "a.html").blocks[0].text.split("\n")


def column(rows: list[str], header: str, value: str) -> str:
    """The first cell of the row that has ``value`` in the column of ``header``."""
    grid = [[cell.strip() for cell in row.split("|")] for row in rows]
    number = grid[0].index(header)
    return next(row[0] for row in grid[1:] if len(row) > number and row[number] == value)


def test_found_roster_keeps_its_days() -> None:
    """Ilse's late shift is on Wednesday; with its empty cells left out it stood under Monday."""
    rows = read(DATA / "duty-roster.docx", "duty-roster.docx").blocks[0].text.split("\n")
    assert column(rows, "Wednesday", "late shift") == "Ilse Brandt"
    assert column(rows, "Tuesday", "early shift") == "Tom Okafor"
    assert column(rows, "Monday", "night shift") == "Mara Lind"


def test_merged_cells_of_a_word_processor_stand_under_each_header(tmp_path: Path) -> None:
    document = docx.Document()
    table = document.add_table(rows=4, cols=4)
    for number, text in enumerate(("Name", "Mon", "Tue", "Wed")):
        table.cell(0, number).text = text
    table.cell(1, 0).merge(table.cell(2, 0)).text = "Ilse"
    table.cell(1, 1).merge(table.cell(1, 2)).text = "late"
    table.cell(2, 3).text = "early"
    table.cell(3, 0).merge(table.cell(3, 3)).text = "Changes until Friday noon"
    buffer = io.BytesIO()
    document.save(buffer)
    file = tmp_path / "content"
    file.write_bytes(buffer.getvalue())
    assert read(file, "a.docx").blocks[0].text.split("\n") == [
        "Name | Mon | Tue | Wed",
        "Ilse | late | late",
        "Ilse | | | early",
        "Changes until Friday noon",
    ]


def test_html_tables_keep_their_columns(tmp_path: Path) -> None:
    """A caption is a line of its own; an empty corner and empty cells keep their places; spans are repeated."""
    markup = """<table><caption>Water, m3</caption>
    <thead><tr><td></td><th colspan=2>First half</th><th>Rest</th></tr></thead>
    <tbody><tr><th rowspan=2>East</th><td>3</td><td></td><td>7</td></tr><tr><td></td><td>5</td></tr></tbody>
    <tbody><tr><td>West</td><td><td>1</tr><tr><td></td><td></td></tr></tbody></table>"""
    assert html(tmp_path, markup) == [
        "Water, m3",
        "| First half | First half | Rest",
        "East | 3 | | 7",
        "East | | 5",
        "West | | 1",
    ]


def test_a_table_in_a_table_keeps_its_own_columns(tmp_path: Path) -> None:
    markup = """<table><tr><td>Flat <table><tr><td></td><td>Area</td></tr><tr><td>2a</td><td>61</td></tr></table></td>
    <td>let</td></tr></table><p>After</p>"""
    assert html(tmp_path, markup) == ["Flat", "| Area", "2a | 61", "| let", "After"]


def test_markdown_tables_keep_empty_cells(tmp_path: Path) -> None:
    file = tmp_path / "content"
    file.write_text("| Name | Mon | Tue |\n|---|---|---|\n| Ilse | | late |\n| Tom | early | |\n")
    assert read(file, "a.md").blocks[0].text.split("\n") == ["Name | Mon | Tue", "Ilse | | late", "Tom | early"]


def test_long_texts_and_huge_spans_are_not_repeated() -> None:
    """What spans a thousand rows is repeated while it is short; no page makes a line without end."""
    grid = Grid()
    assert grid.row([Cell("word" * 50, rows=9), Cell("a")]) == f"{'word' * 50} | a"
    assert grid.row([Cell("b")]) == "| b"
    assert len(Grid().row([Cell("x", columns=10_000), Cell("y")]).split("|")) == MAX_SPAN + 1


@pytest.mark.parametrize(
    ("value", "wanted"), [(None, 1), ("2", 2), ("0", 100), ("999999", 100), ("-1", 1), ("x", 1), ("", 1), ("²", 1)]
)
def test_spans_are_what_html_means_by_them(value: str | None, wanted: int) -> None:
    assert span(value, 100) == wanted
