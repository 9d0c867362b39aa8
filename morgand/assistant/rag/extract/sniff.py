"""What a file is: decided by its content, and by its name where content alone cannot tell."""

from __future__ import annotations

import io
import zipfile
from enum import StrEnum
from pathlib import PurePath

from morgand.assistant.rag.extract.text import is_binary
from morgand.base.errors import Unreadable, Unsupported


class FileKind(StrEnum):
    PDF = "pdf"
    DOCX = "docx"
    HTML = "html"
    MARKDOWN = "markdown"
    TEXT = "text"


READABLE = "Morgan reads PDF, DOCX, HTML, Markdown, plain text and source code."
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_BY_EXTENSION = {
    "pdf": FileKind.PDF, "docx": FileKind.DOCX,
    "html": FileKind.HTML, "htm": FileKind.HTML, "xhtml": FileKind.HTML,
    "md": FileKind.MARKDOWN, "markdown": FileKind.MARKDOWN, "mkd": FileKind.MARKDOWN,
}  # fmt: skip
_TEXT_NAMES = """txt text log csv tsv rst adoc org tex srt vtt eml
py pyi js mjs cjs jsx ts tsx java kt kts scala groovy c h cc cpp cxx hpp hh cs go rs swift m mm rb php pl pm lua r jl
hs ml ex exs erl clj lisp el dart zig nim sh bash zsh fish ps1 bat cmd sql graphql proto json jsonl ndjson yaml yml
toml ini cfg conf env properties xml xsd xsl css scss sass less vue svelte tf hcl dockerfile makefile mk cmake gradle
diff patch ipynb"""
TEXT_EXTENSIONS = frozenset(_TEXT_NAMES.split())


def sniff(data: bytes, name: str) -> FileKind:
    """The kind of file. Raises Unreadable (empty, damaged, encrypted) or Unsupported."""
    if not data.strip():
        raise Unreadable(f"'{name}' is empty.", remedy="Remove it, or add what it should say.")
    extension = PurePath(name).suffix.lower().removeprefix(".")
    if b"%PDF-" in data[:1024]:
        return FileKind.PDF
    if data.startswith(_OLE):
        raise _office_container(data, name)
    if data.startswith(b"PK\x03\x04"):
        return _archive(data, name, extension)
    claimed = _BY_EXTENSION.get(extension)
    if claimed in (FileKind.PDF, FileKind.DOCX):
        raise Unreadable(
            f"'{name}' is called .{extension} but is not one inside.", remedy="Export it again from its program."
        )
    if is_binary(data):
        raise Unsupported(f"'{name}' is binary data, not text.", remedy=READABLE)
    if claimed is not None:
        return claimed
    if extension in TEXT_EXTENSIONS:
        return FileKind.TEXT
    if data[:512].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return FileKind.HTML
    if not extension:
        return FileKind.TEXT
    raise Unsupported(
        f"'{name}' is of an unknown type (.{extension}).", remedy=f"{READABLE} If it is text, rename it to .txt."
    )


def _office_container(data: bytes, name: str) -> Unreadable | Unsupported:
    if _ENCRYPTED in data:
        return Unreadable(f"'{name}' is encrypted.", remedy="Save a copy without a password and ingest that.")
    return Unsupported(f"'{name}' is in an old Office format.", remedy="Save it as DOCX or PDF and ingest that.")


def _archive(data: bytes, name: str, extension: str) -> FileKind:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as err:
        raise Unreadable(
            f"'{name}' is damaged: its end is missing or broken.", remedy="Fetch it again from where it came."
        ) from err
    if "word/document.xml" in members or (extension == "docx" and "[Content_Types].xml" in members):
        return FileKind.DOCX
    raise Unsupported(
        f"'{name}' is an archive or a format Morgan does not know.", remedy=f"{READABLE} Unpack it first."
    )
