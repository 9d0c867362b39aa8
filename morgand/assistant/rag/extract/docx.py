"""DOCX: mammoth makes HTML of it, our HTML reader does the rest; headers and footers are read from the XML."""

from __future__ import annotations

import io
import zipfile
from typing import Any
from xml.etree import ElementTree as ET

import mammoth

from morgand.assistant.rag.extract.html import read_markup
from morgand.assistant.rag.extract.types import Block, ExtractedContent, normalised
from morgand.base.errors import TooLarge, Unreadable

MIME = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
MAX_XML_BYTES = 64 * 1024 * 1024
MAX_UNPACKED_BYTES = 1024 * 1024 * 1024
MAX_RATIO = 200  # office XML packs 10 to 30 times; only a bomb packs more
SMALL_BYTES = 4 * 1024 * 1024  # below this no ratio hurts
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def read(data: bytes, name: str) -> ExtractedContent:
    """Sections by heading path, then headers and footers. Raises Unreadable or TooLarge."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _refuse_bombs(archive, name)
            margins = _margins(archive)
        markup: str = mammoth.convert_to_html(io.BytesIO(data), convert_image=_no_image).value
    except (Unreadable, TooLarge):
        raise
    except Exception as err:
        raise Unreadable(
            f"'{name}' is damaged: it is not a readable DOCX ({type(err).__name__}).",
            remedy="Open it in a word processor and save it again.",
        ) from err
    content = read_markup(markup, name, MIME)
    extra = (Block(margins, "header and footer"),) if margins else ()
    return ExtractedContent(content.title, MIME, content.blocks + extra)


def _no_image(_: Any) -> list[Any]:
    return []


def _refuse_bombs(archive: zipfile.ZipFile, name: str) -> None:
    """Judge the declared sizes before anything is unpacked; zipfile never reads beyond them."""
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    xml = sum(member.file_size for member in members if member.filename.endswith((".xml", ".rels")))
    bomb = unpacked > SMALL_BYTES and unpacked > MAX_RATIO * max(packed, 1)
    if bomb or unpacked > MAX_UNPACKED_BYTES or xml > MAX_XML_BYTES:
        raise TooLarge(
            f"'{name}' unpacks to {unpacked // (1024 * 1024)} MB, more than a document should.",
            remedy="Split it, or save it as PDF.",
        )
    if any(member.flag_bits & 1 for member in members):
        raise Unreadable(f"'{name}' is encrypted.", remedy="Save a copy without a password and ingest that.")


def _margins(archive: zipfile.ZipFile) -> str:
    """What stands in page headers and footers, each line once; mammoth leaves them out."""
    lines: dict[str, None] = {}
    for member in sorted(archive.namelist()):
        if member.startswith(("word/header", "word/footer")) and member.endswith(".xml"):
            for paragraph in ET.fromstring(archive.read(member)).iter(f"{_WORD}p"):  # noqa: S314 - expat limits entities
                line = normalised("".join(text.text or "" for text in paragraph.iter(f"{_WORD}t")))
                if any(char.isalpha() for char in line):
                    lines[line] = None
    return "\n".join(lines)
