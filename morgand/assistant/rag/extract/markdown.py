"""Markdown: headings become the path; tables and code are kept as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from morgand.assistant.rag.extract import table
from morgand.assistant.rag.extract.html import read_markup
from morgand.assistant.rag.extract.text import decoded
from morgand.assistant.rag.extract.types import ExtractedContent, Sections, check_size, normalised, plain_text

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)


def read(data: bytes, name: str) -> ExtractedContent:
    """Sections by heading path. Raises TooLarge."""
    text = normalised(decoded(data), keep_indent=True)
    check_size(len(text), name)
    sections = Sections(name)
    front = _FRONT_MATTER.match(text)
    if front:
        sections.add(front[1])
        text = text[front.end() :]
    _collect(MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text), sections, name)
    blocks = sections.blocks()
    return ExtractedContent(sections.first_heading, "text/markdown", blocks)


def _collect(tokens: Sequence[Token], sections: Sections, name: str) -> None:
    row: list[str] | None = None
    heading = 0
    for token in tokens:
        if token.type == "heading_open":
            heading = int(token.tag[1])
        elif token.type == "tr_open":
            row = []
        elif token.type == "tr_close":
            sections.add(table.line(row or ()))
            row = None
        elif token.type == "inline":
            line = "".join(_inline(token.children or ()))
            if heading:
                sections.heading(heading, line)
                heading = 0
            elif row is not None:
                row.append(line.strip())
            else:
                sections.add(line)
        elif token.type in ("fence", "code_block"):
            sections.add(token.content)
        elif token.type == "html_block":
            sections.add(plain_text(read_markup(token.content, name, "text/html").blocks))


def _inline(tokens: Sequence[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type in ("text", "code_inline", "image"):
            yield token.content
        elif token.type == "softbreak":
            yield " "
        elif token.type == "hardbreak" or (token.type == "html_inline" and token.content.lower().startswith("<br")):
            yield "\n"
