"""From a file to blocks of text with a place for each. Heavy libraries: for the extractor's process only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from morgand.assistant.rag.extract import docx, html, markdown, pdf, text
from morgand.assistant.rag.extract.sniff import FileKind, sniff
from morgand.assistant.rag.extract.types import Block, ExtractedContent
from morgand.base.errors import Unreadable

READERS: dict[FileKind, Callable[[bytes, str], ExtractedContent]] = {
    FileKind.PDF: pdf.read,
    FileKind.DOCX: docx.read,
    FileKind.HTML: html.read,
    FileKind.MARKDOWN: markdown.read,
    FileKind.TEXT: text.read,
}


def read(path: Path, name: str) -> ExtractedContent:
    """Title, type and blocks of one file; ``name`` is what people call it and decides with the content.

    Raises Unsupported, Unreadable or TooLarge, each naming the file and the remedy.
    """
    try:
        data = path.read_bytes()
    except OSError as err:
        raise Unreadable(f"'{name}' cannot be read: {err.strerror}.") from err
    content = READERS[sniff(data, name)](data, name)
    if not any(block.text.strip() for block in content.blocks):
        raise Unreadable(f"'{name}' contains no text.", remedy="Remove it, or add what it should say.")
    return content


__all__ = ["Block", "ExtractedContent", "read"]
