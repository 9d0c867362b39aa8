"""The table of bad input names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def functions(file: Path) -> set[str]:
    if not file.is_file():
        return set()
    return {one.name for one in ast.walk(ast.parse(file.read_text())) if hasattr(one, "name") and one.name is not None}


def rows() -> list[str]:
    text = (ROOT / "docs" / "bad-input.md").read_text()
    return [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| Item")]


def test_every_row_names_tests_that_exist() -> None:
    """Each item has a test, and each test named is there under that name."""
    found = {row: NAMED.findall(row) for row in rows()}
    assert len(found) >= 20
    assert [row for row, tests in found.items() if not tests] == []
    missing = [
        f"{path}::{name}"
        for tests in found.values()
        for path, name in tests
        if name not in functions(ROOT / path)
    ]  # fmt: skip
    assert missing == []
