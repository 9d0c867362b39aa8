"""HTML: walk the tree once, without recursion, and keep what people would see."""

from __future__ import annotations

from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from morgand.assistant.rag.extract.table import MAX_ROWS, MAX_SPAN, Cell, Grid, span
from morgand.assistant.rag.extract.text import decoded
from morgand.assistant.rag.extract.types import ExtractedContent, Sections, normalised

_SKIP = frozenset({
    "script", "style", "noscript", "template", "svg", "head", "iframe", "object", "embed", "canvas", "audio", "video",
})  # fmt: skip
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCK_NAMES = """address article aside blockquote body br caption center dd details dialog div dl dt fieldset
figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr html legend li main nav ol option p pre
section summary table tbody tfoot thead tr ul"""
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_CELLS = frozenset({"td", "th"})
_ROWS = frozenset({"tr", "caption"})
_ROW_GROUPS = frozenset({"thead", "tbody", "tfoot"})


def read(data: bytes, name: str) -> ExtractedContent:
    """Sections by heading path. Raises TooLarge."""
    return read_markup(decoded(data), name, "text/html")


def read_markup(markup: str, name: str, mime: str) -> ExtractedContent:
    """The same of markup that is text already; DOCX comes this way too."""
    tree = LexborHTMLParser(markup)
    sections = Sections(name)
    if tree.root is not None:
        _Walk(sections).over(tree.root)
    blocks = sections.blocks()
    found = tree.css_first("title")
    title = " ".join(normalised(found.text()).split()) if found is not None else ""
    return ExtractedContent(title or sections.first_heading, mime, blocks)


class _Walk:
    """State of one walk: the line being built, and whether it belongs to a heading, a table or code."""

    def __init__(self, sections: Sections) -> None:
        self._sections = sections
        self._line: list[str] = []
        self._row: list[Cell] = []
        self._tables: list[Grid] = []  # the outer ones first
        self._heading = self._code = 0

    def over(self, root: LexborNode) -> None:
        for node, entering in _steps(root):
            tag = node.tag or ""
            if tag == "-text":
                if entering:
                    self._text(node.text_content or "")
            elif entering:
                self._enter(tag)
            else:
                self._leave(tag, node)
        self._flush()

    def _text(self, text: str) -> None:
        self._line.append(text if self._code else " ".join(("x" + text + "x").split())[1:-1])

    def _enter(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._break()
        if tag in _HEADINGS and not self._tables:
            self._heading += 1
        if tag == "table":
            if self._tables:
                self._flush()  # what the cell around it holds so far
            self._tables.append(Grid())
        elif tag in _ROW_GROUPS and self._tables:
            self._tables[-1].section()
        self._code += tag == "pre"

    def _leave(self, tag: str, node: LexborNode) -> None:
        if tag in _HEADINGS and self._heading:
            self._sections.heading(_HEADINGS[tag], "".join(self._line))
            self._line = []
            self._heading -= 1
        elif tag in _CELLS and self._tables:
            self._row.append(_cell("".join(self._line), node))
            self._line = []
        elif tag in _ROWS and self._tables:
            self._flush()
        elif tag in _BLOCKS:
            self._break()
        if tag == "table" and self._tables:
            self._tables.pop()
        self._code -= tag == "pre"

    def _break(self) -> None:
        """The end of a line, unless the line is a part of a heading or of a table cell."""
        if self._heading or self._tables:
            self._line.append(" ")
        else:
            self._flush()

    def _flush(self) -> None:
        """A row of a table, or a line; what stands in a table and in no cell is a line too."""
        if self._row and self._tables:
            self._sections.add(self._tables[-1].row(self._row))
        line = "".join(self._line)
        self._sections.add(line.strip() if self._tables else line)
        self._line, self._row = [], []


def _cell(text: str, node: LexborNode) -> Cell:
    spans = node.attributes
    return Cell(" ".join(text.split()), span(spans.get("colspan"), MAX_SPAN), span(spans.get("rowspan"), MAX_ROWS))


def _steps(root: LexborNode) -> Iterator[tuple[LexborNode, bool]]:
    """Every node on the way in (True) and on the way out (False). A loop: pages may nest deeper than any stack."""
    open_nodes: list[LexborNode] = []
    node: LexborNode | None = root
    while node is not None or open_nodes:
        if node is None:
            closed = open_nodes.pop()
            yield closed, False
            node = closed.next
            continue
        if node.tag in _SKIP:
            node = node.next
            continue
        yield node, True
        open_nodes.append(node)
        node = node.child
