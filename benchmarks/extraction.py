"""Extraction against a reference: ``python -m benchmarks.extraction FOLDER``.

FOLDER holds ``docx html md pdf``, each with ``sources/FILE`` and ``groundtruth/FILE.md`` (or the stem).
Prints, per format, the mean bag-of-words F1 and the time per file (PDF: per page).
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from pathlib import Path

from morgand.assistant.rag.extract import read
from morgand.assistant.rag.extract.types import plain_text
from morgand.base.errors import MorganError

WORD = re.compile(r"\w+")
MARKUP = re.compile(r"<!--.*?-->|&\w+;|\]\([^)]*\)|<[^>]*>", re.DOTALL)


def words(text: str) -> Counter[str]:
    """The words of plain text or of Markdown, whose marks, comments and link targets do not count."""
    return Counter(WORD.findall(MARKUP.sub(" ", text).replace("\\_", "_").lower()))


def f1(found: Counter[str], wanted: Counter[str]) -> float:
    common = (found & wanted).total()
    return 2 * common / max(found.total() + wanted.total(), 1)


def measure(folder: Path) -> None:
    scores: list[float] = []
    spent_ms, units, refused = 0.0, 0, 0
    for source in sorted((folder / "sources").iterdir()):
        names = (f"{source.name}.md", f"{source.stem}.md")
        reference = next((file for name in names if (file := folder / "groundtruth" / name).exists()), None)
        if reference is None:
            continue
        wanted = words(reference.read_text(encoding="utf-8"))
        if not wanted:
            continue
        start = time.perf_counter()
        try:
            content = read(source, source.name)
        except MorganError as err:
            refused += 1
            print(f"  {err}", file=sys.stderr)
            continue
        spent_ms += (time.perf_counter() - start) * 1000
        units += len(content.blocks) if folder.name == "pdf" else 1
        scores.append(f1(words(plain_text(content.blocks)), wanted))
        if scores[-1] < 0.9:
            print(f"  {source.name}: F1 {scores[-1]:.3f}", file=sys.stderr)
    unit = "page" if folder.name == "pdf" else "file"
    mean = sum(scores) / max(len(scores), 1)
    speed = f"{spent_ms / max(units, 1):.1f} ms/{unit}"
    print(f"{folder.name}: F1 {mean:.3f} over {len(scores)} files, {speed}, {refused} refused")


def main() -> None:
    if len(sys.argv) != 2:
        print(__doc__)
        return
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        if (folder / "sources").is_dir():
            measure(folder)


if __name__ == "__main__":
    main()
