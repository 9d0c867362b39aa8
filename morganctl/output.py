"""What people and programs see: one JSON document, or tables and text made safe for a terminal.

With ``json`` on, stdout carries exactly one document and everything for people goes to stderr.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

if TYPE_CHECKING:
    from rich.console import Console

    from morgand.api.schema import CitationView

MANY_COLUMNS = 3  # a pair of columns is readable however narrow
LAST_COLUMN = 20
PADDING = 3  # around and between columns

# Characters that reorder what is shown; a name such as "gpj.exe" can be made to look like another with them.
_REORDERING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean(text: str) -> str:
    """``text`` without anything a terminal would obey; line breaks and tabs stay, lone surrogates are escaped."""
    shown = (
        char for char in text if char in "\n\t" or (unicodedata.category(char) != "Cc" and char not in _REORDERING)
    )
    return "".join(shown).encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: str) -> str:
    """``clean`` with line breaks and tabs written as escapes, for names and table cells."""
    return clean(text.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t"))


def fits(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> bool:
    """Whether a table of this width breaks no cell but those of the last column, which has room for some words."""
    if len(columns) < MANY_COLUMNS:
        return True
    widest = [max(len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
    return sum(widest[:-1]) + min(widest[-1], LAST_COLUMN) + PADDING * len(columns) + 1 <= width


def short(identifier: str) -> str:
    """The first eight characters of an id: commands accept any unique beginning."""
    return identifier[:8]


@dataclass
class Output:
    """Writes to the streams that are current when called, so that a test can capture them."""

    json: bool = False
    _documents: int = field(default=0, init=False)

    @property
    def terminal(self) -> bool:
        """Whether a person watches stdout."""
        return not self.json and sys.stdout.isatty()

    @property
    def people(self) -> TextIO:
        """The stream for people's text."""
        return sys.stderr if self.json else sys.stdout

    def document(self, value: Any) -> None:
        """Print the one JSON document; a second one is a fault of the command."""
        assert self._documents == 0, "--json prints one document"
        self._documents += 1
        encoded = msgspec.json.encode(value)
        if sys.stdout.isatty():
            encoded = msgspec.json.format(encoded, indent=2)
        print(encoded.decode("utf-8"), flush=True)

    @property
    def done(self) -> bool:
        """Whether the JSON document is out."""
        return self._documents > 0

    def say(self, text: str = "") -> None:
        """A line of the answer."""
        print(clean(text), file=self.people, flush=True)

    def note(self, text: str) -> None:
        """A line about the work, not part of the answer."""
        print(clean(text), file=sys.stderr, flush=True)

    def console(self) -> Console:
        """rich on the people's stream; nothing in it is read as markup."""
        from rich.console import Console

        return Console(file=self.people, markup=False, highlight=False, emoji=False)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
        """A table on a terminal, or a paragraph for each row where it is too narrow for one; otherwise a header and
        rows separated by tabs."""
        cells = [[one_line(_cell(value)) for value in row] for row in rows]
        if not self.people.isatty():
            for line in ([column.upper() for column in columns], *cells):
                print("\t".join(line), file=self.people)
            self.people.flush()
            return
        console = self.console()
        if not fits(columns, cells, console.width):
            self._paragraphs(columns, cells)
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD)
        for line in cells:
            table.add_row(*(Text(cell) for cell in line))
        console.print(table)

    def _paragraphs(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        width = max(len(column) for column in columns)
        for row in rows:
            self.say(row[0])
            for column, cell in zip(columns[1:], row[1:], strict=True):
                self.say(f"  {column:<{width}}  {cell}")

    def sources(self, citations: Sequence[CitationView], notices: Sequence[str]) -> None:
        """What an answer rests on (with the answer) and what was missing while it was made (a note)."""
        if citations:
            self.say()
            self.say("Sources:")
        for citation in citations:
            self.say(f"  [{citation.number}] {one_line(citation.title)}, {one_line(citation.place)}")
        for notice in notices:
            self.note(f"Notice: {one_line(notice)}")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "-"
    return str(value)
