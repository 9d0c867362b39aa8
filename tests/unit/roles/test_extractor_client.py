"""The document reader's client: when it asks whether its engine is there."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar, cast

import msgspec
import pytest

from morgand.base.error_wire import to_wire
from morgand.base.errors import EngineError, Unsupported
from morgand.roles.core.extractor_client import FRESH_S, RESTART_S, EngineExtractor
from morgand.roles.core.extractor_wire import ExtractionReading, ExtractReply, ExtractRequest
from morgand.roles.process import EngineClient
from morgand.state.assistant import Extracted
from tests.fakes.storage import HandClock

ReplyT = TypeVar("ReplyT")
NOTES = Path("notes.txt")


class Reader(EngineClient):
    """An engine that reads everything, crashes on ``deadly`` files, and is back at once."""

    def __init__(self, *deadly: str) -> None:
        super().__init__(Path("unused.sock"), "extractor")
        self.deadly = list(deadly)
        self.asked = 0
        self.calls: list[list[str]] = []

    async def call(self, name: str, payload: msgspec.Struct, reply: type[ReplyT], *, deadline_s: float) -> ReplyT:
        assert isinstance(payload, ExtractRequest)
        names = [file.name for file in payload.files]
        self.calls.append(names)
        for one in names:
            if one in self.deadly:
                self.deadly.remove(one)
                raise EngineError("The extractor engine is not running.")
        return cast("ReplyT", ExtractReply(tuple(_reading(one) for one in names)))

    async def healthy(self, *, deadline_s: float = 5.0) -> bool:
        self.asked += 1
        return True


def _reading(name: str) -> ExtractionReading:
    if name == "binary.txt":
        return ExtractionReading(error=to_wire(Unsupported("'binary.txt' is binary.")))
    return ExtractionReading(Extracted(name, "text/plain", ()))


async def said(extractor: EngineExtractor, *names: str) -> list[str]:
    """The title of each file, or the word for what is wrong with it."""
    found = await extractor.extract([(NOTES, name) for name in names])
    return [one.title or "" if isinstance(one, Extracted) else type(one).__name__ for one in found]


async def test_files_that_are_given_together_are_read_in_one_call() -> None:
    reader = Reader()
    assert await said(EngineExtractor(reader, HandClock()), "a.txt", "binary.txt", "c.txt") == [
        "a.txt", "Unsupported", "c.txt",
    ]  # fmt: skip
    assert reader.calls == [["a.txt", "binary.txt", "c.txt"]]


async def test_a_crash_costs_only_the_file_that_causes_it() -> None:
    reader = Reader(*["bad.txt"] * 3)
    assert await said(EngineExtractor(reader, HandClock()), "a.txt", "bad.txt", "c.txt") == [
        "a.txt", "Unreadable", "c.txt",
    ]  # fmt: skip
    assert reader.calls == [["a.txt", "bad.txt", "c.txt"], ["a.txt"], ["bad.txt"], ["bad.txt"], ["c.txt"]]


async def test_without_an_engine_nothing_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader()

    async def away(*, deadline_s: float = 5.0) -> bool:
        return False

    monkeypatch.setattr(reader, "healthy", away)
    clock = HandClock()
    began = clock.monotonic()
    assert await said(EngineExtractor(reader, clock), "a.txt", "b.txt", "c.txt") == ["EngineError"] * 3
    assert reader.calls == []
    assert clock.monotonic() - began < 2 * RESTART_S  # it is waited for once, not for each file


async def test_an_engine_that_has_just_read_a_file_is_not_asked_again() -> None:
    """Many small files in a row cost a request each, not two; after a pause the engine may have gone."""
    reader, clock = Reader(), HandClock()
    extractor = EngineExtractor(reader, clock)
    for number in range(5):
        assert await said(extractor, f"{number}.txt") == [f"{number}.txt"]
    assert reader.asked == 1
    clock.turn(FRESH_S + 0.1)
    await said(extractor, "later.txt")
    assert reader.asked == 2


async def test_a_file_is_blamed_for_the_second_crash_and_the_engine_is_waited_for_after_it() -> None:
    """One crash is forgiven, even if the engine was fine a moment ago; after two the next file asks first."""
    reader = Reader("once.txt", "bad.txt", "bad.txt")
    extractor = EngineExtractor(reader, HandClock())
    assert await said(extractor, "good.txt") == ["good.txt"]
    assert await said(extractor, "once.txt") == ["once.txt"]
    assert await said(extractor, "bad.txt") == ["Unreadable"]
    before = reader.asked
    assert await said(extractor, "next.txt") == ["next.txt"]
    assert reader.asked == before + 1
