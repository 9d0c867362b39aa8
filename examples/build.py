"""Make the PDF and the DOCX of the example documents: ``python examples/build.py`` (needs the ``test`` extra).

Their text stands in ``sources``: lines that start with ``#`` are headings, with ``|`` table rows; ``---`` ends a page.
"""

# ruff: noqa: INP001 - a script, not a package
from __future__ import annotations

from pathlib import Path

import docx
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.lib.units import cm
from reportlab.platypus import Flowable, PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table

FOLDER = Path(__file__).parent / "documents"

SOURCES = Path(__file__).parent / "sources"


def boiler_flowables() -> list[Flowable]:
    """The manual, one page per part."""
    styles = getSampleStyleSheet()
    found: list[Flowable] = []
    for part in (SOURCES / "boiler-manual.txt").read_text(encoding="utf-8").split("---\n"):
        rows: list[list[Paragraph]] = []
        for line in [*part.splitlines(), ""]:
            if line.startswith("|"):
                rows.append([Paragraph(cell, styles["BodyText"]) for cell in line[1:].split("|")])
                continue
            if rows:
                found += [Table(rows, colWidths=[1.5 * cm, 6 * cm, 9 * cm]), Spacer(1, 12)]
                rows = []
            if line.startswith("# "):
                found.append(Paragraph(line[2:], styles["Heading2"]))
            elif line:
                found.append(Paragraph(line, styles["BodyText"]))
        found.append(PageBreak())
    return found


def build_boiler(file: Path) -> None:
    SimpleDocTemplate(str(file), pagesize=A4, title="Boiler manual", invariant=1).build(boiler_flowables())


def build_lease(file: Path) -> None:
    document = docx.Document()
    document.core_properties.title = "Lease agreement"
    table = None
    for line in (SOURCES / "lease.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            table = table or document.add_table(rows=0, cols=2)
            for cell, text in zip(table.add_row().cells, line[1:].split("|"), strict=True):
                cell.text = text
            continue
        table = None
        if line.startswith("# "):
            document.add_heading(line[2:], level=2 if line[2].isdigit() else 1)
        else:
            document.add_paragraph(line)
    document.save(str(file))


if __name__ == "__main__":
    build_boiler(FOLDER / "boiler-manual.pdf")
    build_lease(FOLDER / "lease.docx")
