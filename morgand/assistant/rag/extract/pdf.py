"""PDF: the text layer, page by page. PDFium is not thread-safe: one call at a time in a process."""

from __future__ import annotations

import re

import pypdfium2 as pdfium

from morgand.assistant.rag.extract.pdf_page import page_text
from morgand.assistant.rag.extract.types import Block, ExtractedContent, check_size, normalised, reflowed
from morgand.base.errors import TooLarge, Unreadable

MAX_PAGES = 20_000
_HYPHEN = re.compile(r"[\x02\ufffe\u00ad]\r?\n?")  # PDFium's mark for a word divided at the end of a line


def read(data: bytes, name: str) -> ExtractedContent:
    """One block per page with text. Raises Unreadable (damaged, encrypted, only pictures) or TooLarge."""
    document = _opened(data, name)
    try:
        if len(document) > MAX_PAGES:
            raise TooLarge(f"'{name}' has more than {MAX_PAGES} pages.", remedy="Split it into smaller files.")
        title = normalised(document.get_metadata_value("Title") or "") or None
        blocks = _pages(document, name)
    except pdfium.PdfiumError as err:
        raise _damaged(name) from err
    finally:
        document.close()
    if not blocks:
        raise Unreadable(
            f"'{name}' has no text layer: its pages are pictures.",
            remedy="OCR it first (ocrmypdf, for example) and ingest the result.",
        )
    return ExtractedContent(None if title in ("untitled", "(anonymous)") else title, "application/pdf", tuple(blocks))


def _opened(data: bytes, name: str) -> pdfium.PdfDocument:
    try:
        return pdfium.PdfDocument(data)
    except pdfium.PdfiumError as err:
        if "password" in str(err).lower() or "security" in str(err).lower():
            raise Unreadable(
                f"'{name}' is encrypted.", remedy="Save a copy without a password and ingest that."
            ) from err
        raise _damaged(name) from err


def _damaged(name: str) -> Unreadable:
    return Unreadable(f"'{name}' is damaged: it is not a readable PDF.", remedy="Fetch or export it again.")


def _pages(document: pdfium.PdfDocument, name: str) -> list[Block]:
    blocks: list[Block] = []
    size = 0
    for number in range(len(document)):
        raw = page_text(document, number)
        size += len(raw)
        check_size(size, name)
        text = reflowed(normalised(_HYPHEN.sub("", raw)))
        if text.strip():
            blocks.append(Block(text, f"page {number + 1}"))
    return blocks
