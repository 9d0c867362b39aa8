"""Which document a person means by what they type."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from morganctl import pages
from morganctl.errors import CliError
from morganctl.files import source_of, sources_meant
from morgand.api.schema import DocumentView

ALIKE = ("a b.txt", "a\u00a0b.txt", "a\u200bb.txt", "a\nb.txt", os.fsdecode(b"a\xffb.txt"))


def document(identifier: str, source: str) -> DocumentView:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return DocumentView(identifier, "a b.txt", source, "text/plain", 1, "0", "completed", now, now, 1, 1)


async def found(wanted: str, *documents: DocumentView) -> str:
    async def listing() -> AsyncIterator[DocumentView]:
        for one in documents:
            yield one

    return await pages.resolve(
        wanted, "document", listing(), lambda item: (item.name, item.source), sources_meant(wanted)
    )


def alike(folder: Path) -> list[DocumentView]:
    """As the daemon shows them: one name for all, and the path to the letter."""
    return [document(f"{n}0000000", source_of(str(folder / name))) for n, name in enumerate(ALIKE)]


async def test_each_file_is_meant_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, or from where the person is; as the shell gives it, byte for byte."""
    monkeypatch.chdir(tmp_path)
    documents = alike(tmp_path)
    for one, name in zip(documents, ALIKE, strict=True):
        assert await found(str(tmp_path / name), *documents) == one.id
        assert await found(f"./{name}", *documents) == one.id
        assert await found(one.source, *documents) == one.id


async def test_what_is_shown_can_be_typed(tmp_path: Path) -> None:
    """A path with a line break is shown with an escape; a name that several have is refused with their ids."""
    documents = alike(tmp_path)
    assert await found(f"{tmp_path}/a\\nb.txt", *documents) == documents[3].id
    assert await found("a b.txt", documents[0]) == documents[0].id
    with pytest.raises(CliError, match=documents[1].id):
        await found("a b.txt", *documents)
    assert await found("30", *documents) == documents[3].id
