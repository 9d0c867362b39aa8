"""The tables of the documentation that name tests name tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def functions(file: Path) -> set[str]:
    if not file.is_file():
        return set()
    return {one.name for one in ast.walk(ast.parse(file.read_text())) if hasattr(one, "name") and one.name is not None}


def rows(text: str) -> list[str]:
    """Those of the text's last table."""
    table = [line for line in text.rpartition("|---|")[2].splitlines() if line.startswith("| ")]
    return [line for line in table if not line.startswith("| Item")]


@pytest.mark.parametrize(("page", "least"), [("bad-input.md", 20), ("faults.md", 13)])
def test_every_row_names_tests_that_exist(page: str, least: int) -> None:
    """Each item has a test, and each test named is there under that name."""
    found = {row: NAMED.findall(row) for row in rows((ROOT / "docs" / page).read_text())}
    assert len(found) >= least
    assert [row for row, tests in found.items() if not tests] == []
    missing = [
        f"{path}::{name}"
        for tests in found.values()
        for path, name in tests
        if name not in functions(ROOT / path)
    ]  # fmt: skip
    assert missing == []
