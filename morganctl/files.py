"""Which files a person meant: folders walked once each, whatever links and names are in them."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

# What the daemon reads; in a folder, other files are skipped and counted. A file named outright is always sent.
DOCUMENTS = frozenset({".pdf", ".docx", ".html", ".htm", ".xhtml", ".md", ".markdown", ".txt", ".text", ".rst"})
SOURCES = frozenset(
    {
        ".bash", ".c", ".cc", ".cfg", ".conf", ".cpp", ".cs", ".css", ".csv", ".go", ".h", ".hpp", ".ini", ".java",
        ".js", ".json", ".jsx", ".kt", ".lua", ".php", ".pl", ".ps1", ".py", ".r", ".rb", ".rs", ".scala", ".sh",
        ".sql", ".swift", ".toml", ".ts", ".tsx", ".xml", ".yaml", ".yml",
    }
)  # fmt: skip
SUPPORTED = DOCUMENTS | SOURCES


@dataclass(frozen=True, slots=True)
class Candidate:
    """A regular file to send; ``path`` is absolute and may hold surrogates for bytes that are not UTF-8."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Fault:
    """A file or folder that cannot be sent."""

    path: str
    reason: str


def walk(paths: Sequence[str], skipped: Counter[str]) -> Iterator[Candidate | Fault]:
    """Everything to send below ``paths``; what is left out is counted in ``skipped`` by reason.

    Links are followed. A folder reached twice is walked once (known by device and inode), so loops end.
    """
    visited: set[tuple[int, int]] = set()
    for given in paths:
        path = os.path.abspath(given)  # noqa: PTH100  # Path.resolve would replace links by where they lead
        try:
            info = os.stat(path)  # noqa: PTH116  # names may hold bytes that Path would also keep, at a cost per file
        except (OSError, ValueError) as err:
            yield Fault(path, _reason(err))
            continue
        if stat.S_ISDIR(info.st_mode):
            yield from _folder(path, info, visited, skipped)
        elif stat.S_ISREG(info.st_mode):
            yield Candidate(path, info.st_size)
        else:
            yield Fault(path, "is neither a file nor a folder")


def _folder(
    top: str, info: os.stat_result, visited: set[tuple[int, int]], skipped: Counter[str]
) -> Iterator[Candidate | Fault]:
    waiting = [(top, info)]
    while waiting:
        folder, info = waiting.pop()
        if (info.st_dev, info.st_ino) in visited:
            skipped["seen before"] += 1
            continue
        visited.add((info.st_dev, info.st_ino))
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as err:
            yield Fault(folder, _reason(err))
            continue
        below: list[tuple[str, os.stat_result]] = []
        for entry in found:
            item = _entry(entry, below, skipped)
            if item is not None:
                yield item
        waiting.extend(reversed(below))


def _entry(
    entry: os.DirEntry[str], below: list[tuple[str, os.stat_result]], skipped: Counter[str]
) -> Candidate | Fault | None:
    """One entry of a folder: to send, faulty, a folder for ``below``, or skipped."""
    if entry.name.startswith("."):
        skipped["hidden"] += 1
        return None
    try:
        info = entry.stat()
    except OSError as err:
        return Fault(entry.path, _reason(err))
    if stat.S_ISDIR(info.st_mode):
        below.append((entry.path, info))
    elif not stat.S_ISREG(info.st_mode):
        skipped["not a file"] += 1
    elif os.path.splitext(entry.name)[1].lower() not in SUPPORTED:  # noqa: PTH122  # ten thousand Path objects less
        skipped["unsupported"] += 1
    else:
        return Candidate(entry.path, info.st_size)
    return None


def _reason(err: OSError | ValueError) -> str:
    if isinstance(err, FileNotFoundError):
        return "there is no such file"
    return f"cannot be read: {err.strerror or err}" if isinstance(err, OSError) else f"cannot be read: {err}"


def text_of(path: str) -> str:
    """A path or name as text for people: bytes that are not UTF-8 as ``\\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def source_of(path: str) -> str:
    """What the daemon knows a file by: its absolute path to the letter; distinct for distinct paths.

    One with bytes that are not UTF-8, which cannot be sent, becomes a ``file:`` URI: no path begins so.
    """
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "file:" + quote(os.fsencode(path))
    return path


def sources_meant(wanted: str) -> list[str]:
    """What the daemon may know a file by that a person gives the way to from here; a mere name is no way."""
    if os.path.basename(wanted) == wanted:  # noqa: PTH119  # as above
        return []
    return [wanted, source_of(os.path.abspath(wanted))]  # noqa: PTH100  # as above


def display_name(path: str) -> str:
    """The file's name on one line, at most 255 characters, its ending kept; other bytes as in URLs.

    A backslash too: whoever shows the name may take it for the end of a folder's.
    """
    name = os.path.basename(path)  # noqa: PTH119  # as above
    shown = "".join(map(_shown, name))
    return shown if len(shown) <= 255 else f"{shown[:200]}...{shown[-52:]}"


def _shown(char: str) -> str:
    if char.isprintable() and char != "\\":
        return char
    return " " if unicodedata.category(char) == "Zs" else quote(os.fsencode(char), safe="")
