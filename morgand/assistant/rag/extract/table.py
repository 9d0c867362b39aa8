"""Rows of a table as lines of text, each value in the column of its header (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

MAX_SPAN = 100  # columns; more is no table that people read
MAX_ROWS = 65_534  # as in HTML
REPEATED_CHARS = 80  # what is longer stands once: nobody looks it up in every row it spans


class Cell(NamedTuple):
    """``columns``, ``rows``: how many it spans."""

    text: str
    columns: int = 1
    rows: int = 1


class Grid:
    """One table, row by row. An empty cell keeps its place; what spans several stands in each of them."""

    def __init__(self) -> None:
        self._below: dict[int, Cell] = {}  # by column: what reaches down from above

    def row(self, cells: Sequence[Cell]) -> str:
        """The row as a line; empty when it says nothing of its own."""
        texts: list[str] = []
        below: dict[int, Cell] = {}
        left = list(reversed(cells))
        while left or len(texts) in self._below:
            column = len(texts)
            cell = self._below.get(column) or left.pop()
            columns = min(cell.columns, MAX_SPAN, _free(column, self._below))
            repeated = cell.text if len(cell.text) <= REPEATED_CHARS else ""
            texts += [cell.text, *[repeated] * (columns - 1)]
            if cell.rows > 1:
                below[column] = Cell(repeated, columns, cell.rows - 1)
        self._below = below
        if not any(cell.text for cell in cells):
            return ""
        if len(cells) == 1 and len(texts) == min(cells[0].columns, MAX_SPAN):  # a title across the table
            return cells[0].text
        return line(texts)

    def section(self) -> None:
        """The head, the body or the foot begins: nothing reaches into it."""
        self._below = {}


def line(texts: Sequence[str]) -> str:
    """Cells as a line; empty ones at its end are left out."""
    last = max((number for number, text in enumerate(texts, start=1) if text), default=0)
    return " | ".join(texts[:last]).strip()


def span(value: str | None, most: int) -> int:
    """What an attribute of HTML says; 1 where it says nothing of use, ``most`` for 0, which is 'to the end'."""
    number = int(value) if value and value.strip().isascii() and value.strip().isdigit() else 1
    return min(number, most) or most


def _free(column: int, taken: dict[int, Cell]) -> int:
    """Columns up to the next one that is taken from above."""
    if column in taken:
        return MAX_SPAN
    return min((other - column for other in taken if other > column), default=MAX_SPAN)
